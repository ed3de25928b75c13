"""The manners of the command line: flags, prompts, pipes, and no traceback whatever is typed."""

from __future__ import annotations

import os
import pty
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runner.commands import namespace
from tests.inside import Inside
from tests.service import Service
from tests.tools import Answer, Program, clean_environment

COMMANDS = sorted(namespace.task_names)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Service:
    service = Service(tmp_path_factory.mktemp("commands") / "service").build()
    Inside(service.folder)("backup", status=0)
    (service.folder / "tasks.py").write_text("from runner.commands import namespace\n")
    return service


@pytest.fixture
def service(original: Service, tmp_path: Path) -> Service:
    shutil.copytree(original.folder, tmp_path / "service", symlinks=True)
    return Service(tmp_path / "service")


@pytest.fixture
def holdfast(service: Service) -> Inside:
    return Inside(service.folder)


def invoke(service: Service, *arguments: str) -> Answer:
    """Invoke itself, in a folder whose tasks.py imports ours."""
    program = Program(service.folder)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "invoke", *arguments],
        cwd=service.folder,
        env=clean_environment(service.folder, **program.environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return Answer(("invoke", *arguments), done.returncode, done.stdout, done.stderr)


def snapshots(service: Service) -> int:
    return len(list((service.folder / "backups" / "quaybot" / "default").glob("2*")))


def assert_polite(answer: Answer, status: int | tuple[int, ...]) -> None:
    """An error in words, without a traceback, and not told as a bug."""
    wanted = status if isinstance(status, tuple) else (status,)
    assert answer.status in wanted, str(answer)
    text = answer.stdout + answer.stderr
    assert "Traceback" not in text, str(answer)
    assert "This is a bug" not in text, str(answer)
    assert text.strip() or answer.status == 0, str(answer)


class TestDry:
    @pytest.mark.parametrize("flag", ["--dry-run", "--dry", "-R"])
    def test_restores_nothing(self, service: Service, holdfast: Inside, flag: str) -> None:
        service.change()
        before = service.observe()
        answer = holdfast("dr-restore", "--confirm", "quaybot", flag, status=0)
        assert "Nothing was done" in answer.stdout
        assert service.observe() == before
        assert service.log() == []
        holdfast("backup", flag, status=0)
        assert snapshots(service) == 1

    def test_is_refused_where_there_is_none(self, service: Service, holdfast: Inside) -> None:
        identifier = holdfast.json("list")["snapshots"][0]["id"]
        assert_polite(holdfast("init", "--force", "--dry"), 1)
        assert "Nothing was done" in holdfast("pin", "--snapshot", identifier, "--dry").stdout
        assert holdfast.json("list")["snapshots"][0]["pinned"] is False

    def test_counts_its_steps_in_words(self, holdfast: Inside) -> None:
        words = ("prune", "--target", "disk", "--dry-run")
        assert "in 1 step:" in holdfast(*words, status=0).stdout
        nothing = holdfast("prune", "--safety", "--dry-run", status=0).stdout
        assert "quaybot: there is nothing to do." in nothing

    def test_prints_commands_and_reasons(self, holdfast: Inside) -> None:
        text = holdfast("restore", "--source", "db", "--dry-run", status=0).stdout
        assert "$ sha256sum --check --quiet SHA256SUMS" in text
        assert "because the newest of db" in text

    def test_the_plan_is_saved_where_a_shell_would_have_put_it(
        self, service: Service, holdfast: Inside
    ) -> None:
        (service.folder / "my plans").mkdir()
        at_home = Inside(service.folder, {"HOME": str(service.folder / "my plans")})
        answer = at_home("backup", "--dry-run", "--out=~/plan.json", status=0)
        line = next(one for one in answer.stdout.splitlines() if one.startswith("Saved."))
        typed = shlex.split(line.removeprefix("Saved. Next: holdfast "))
        assert typed == ["apply", "--plan", str(service.folder / "my plans" / "plan.json")]
        holdfast(*typed, status=0)

    @pytest.mark.parametrize(
        ("command", "asked"),
        [
            ("dr-restore", "quaybot"),
            ("restore --source db", "db"),
            ("restore --source db --to data/quaybot.db", "db"),
            ("restore --source db --to copy.db", None),
            ("delete --snapshot {snapshot}", "{snapshot}"),
            ("verify", None),
        ],
    )
    def test_the_line_that_applies_a_plan_has_all_that_it_needs(
        self, service: Service, holdfast: Inside, command: str, asked: str | None
    ) -> None:
        if command.startswith("delete"):
            holdfast("backup", status=0)
        oldest = holdfast.json("list")["snapshots"][-1]["id"]
        words = command.format(snapshot=oldest).split()
        file = str(service.folder / "backup.yaml")
        line = holdfast.json(*words, "--dry-run", "--out", "plan.json", "--file", file)["next"]
        typed = shlex.split(line)[1:]
        named = asked and asked.format(snapshot=oldest)
        confirm = ["--confirm", named] if named else []
        plan = str(service.folder / "plan.json")
        assert typed == ["apply", "--plan", plan, *confirm, "--file", file]
        holdfast(*typed, status=0)

    def test_out_needs_it(self, holdfast: Inside) -> None:
        assert_polite(holdfast("backup", "--out", "plan.json"), 1)


class TestFlags:
    def test_a_folder_that_is_named_as_a_target_is_told_how_to_write_it(
        self, service: Service, holdfast: Inside
    ) -> None:
        (service.folder / "usb").mkdir()
        for command in ("dr-restore", "list", "runbook"):
            answer = holdfast(command, "--from", "usb", status=1)
            assert "For the folder here, write --from ./usb" in answer.stderr
        nowhere = Inside(service.folder.parent)("dr-restore", "--from", "service", status=3)
        assert "For the folder here, write --from ./service" in nowhere.stderr
        assert "For the folder" not in holdfast("dr-restore", "--from", "nas", status=1).stderr

    def test_one_command_a_call(self, service: Service, holdfast: Inside) -> None:
        answer = holdfast("validate", "backup", status=1)
        assert "One command a call" in answer.stderr
        assert "warnings" not in answer.stdout
        answer = holdfast("list", "--json", "backup", status=1)
        assert answer.json["error"]["kind"] == "usage"
        assert snapshots(service) == 1

    def test_a_flag_without_its_value_is_refused(self, service: Service, holdfast: Inside) -> None:
        answer = holdfast("backup", "--policy", "--json", status=1)
        assert "--policy has no value" in answer.json["error"]["message"]
        assert_polite(holdfast("backup", "--policy"), 1)
        assert_polite(holdfast("backup", "--policy="), 1)
        for empty in (",", " ", ", ,"):  # as of variables that are not set: not all of them
            assert_polite(holdfast("backup", "--source", empty), 1)
            assert_polite(holdfast("dr-restore", f"--steps={empty}", "--confirm", "quaybot"), 1)
        assert_polite(holdfast("dr-restore", "--at", "", "--confirm", "quaybot"), 1)
        assert service.log() == []
        assert snapshots(service) == 1

    @pytest.mark.parametrize("command", ["restore --source db", "dr-restore", "drill", "ls"])
    def test_a_snapshot_and_a_time_at_once(self, holdfast: Inside, command: str) -> None:
        answer = holdfast(*command.split(), "--snapshot", "7f3a9c", "--at", "2h ago", status=1)
        assert "--snapshot and --at each choose a snapshot" in answer.stderr

    def test_invokes_own_file_flag_is_refused(self, service: Service, holdfast: Inside) -> None:
        (service.folder / "other.yaml").write_text((service.folder / "backup.yaml").read_text())
        answer = holdfast("-f", "other.yaml", "backup", status=1)
        assert "--file" in answer.stderr
        assert snapshots(service) == 1

    @pytest.mark.parametrize(
        "words", [["bakcup"], ["backup", "nightly"], ["restore", "db"], ["list", "--sauce", "db"]]
    )
    def test_what_nobody_knows_is_refused(
        self, service: Service, holdfast: Inside, words: list[str]
    ) -> None:
        assert_polite(holdfast(*words), 1)
        assert snapshots(service) == 1

    def test_what_follows_two_dashes_is_not_ignored(
        self, service: Service, holdfast: Inside
    ) -> None:
        answer = holdfast("restore", "--source", "db", "--confirm", "db", "--", "--dry-run")
        assert_polite(answer, 1)
        assert "`--` hides what follows it: --dry-run" in answer.stderr
        assert service.log() == []

    def test_lists_are_repeated_or_separated_by_commas(self, holdfast: Inside) -> None:
        for words in (
            ["--source", "db", "--source", "config"],
            ["--source", "db,config"],
            ["--source=db,config"],
        ):
            steps = holdfast.json("backup", *words, "--dry-run")["steps"]
            captures = [one["id"] for one in steps if one["action"] == "source.capture"]
            assert captures == ["nightly.db.capture", "nightly.config.capture"]

    @pytest.mark.parametrize("command", COMMANDS)
    def test_help(self, holdfast: Inside, command: str) -> None:
        text = holdfast(command, "--help", status=0).stdout
        assert "--json" in text
        assert "--profile" in text

    def test_all_commands_are_listed_when_none_is_given(self, holdfast: Inside) -> None:
        text = holdfast(status=0).stdout
        assert all(f"  {command} " in text for command in COMMANDS)

    def test_an_id_may_be_shortened(self, holdfast: Inside) -> None:
        identifier = holdfast.json("list")["snapshots"][0]["id"]
        for short in (identifier[-6:], identifier[:16]):
            assert holdfast.json("show", "--snapshot", short)["id"] == identifier


def test_files_that_are_to_be_skipped_are_not_replaced(service: Service, holdfast: Inside) -> None:
    before = service.observe()
    arguments = ("--source", "config", "--existing", "skip", "--confirm", "config")
    answer = holdfast("restore", *arguments)
    assert_polite(answer, 1)
    assert "config is files" in answer.stderr
    assert service.observe() == before
    assert service.log() == []


class TestSpec:
    def test_is_found_in_a_folder_above(self, service: Service) -> None:
        below = Inside(service.folder / "config" / "deep")
        assert len(below.json("list")["snapshots"]) == 1

    def test_is_named_by_flag_or_environment(self, service: Service, tmp_path: Path) -> None:
        file = str(service.folder / "backup.yaml")
        assert len(Inside(tmp_path, {"HOLDFAST_FILE": file}).json("list")["snapshots"]) == 1
        assert len(Inside(tmp_path).json("list", "--file", file)["snapshots"]) == 1

    def test_takes_its_profile_from_flag_or_environment(self, service: Service) -> None:
        with (service.folder / "backup.yaml").open("a") as spec:
            spec.write("profiles: {prod: {parallel: 1}}\n")
        plain = Inside(service.folder)
        prod = Inside(service.folder, {"HOLDFAST_PROFILE": "prod"})
        for plan in (
            plain.json("backup", "--dry-run", "--profile", "prod"),
            prod.json("backup", "--dry-run"),
        ):
            assert plan["profile"] == "prod"


class TestNoTraceback:
    @pytest.mark.parametrize("command", ["list", "backup", "validate", "status", "dr-restore"])
    def test_without_a_spec(self, tmp_path: Path, command: str) -> None:
        for words in ([command], [command, "--file", "nowhere.yaml"], [command, "--file", "."]):
            assert_polite(Inside(tmp_path)(*words), (1, 3))
            answer = Inside(tmp_path)(*words, "--json")
            assert answer.json["ok"] is False

    @pytest.mark.parametrize(
        "data", [b"", b"\xff\xfe\x00", b"[]", b"version: 1", b"a: &a [*a]", b"{", b"\0"]
    )
    def test_with_an_unreadable_spec(self, tmp_path: Path, data: bytes) -> None:
        (tmp_path / "backup.yaml").write_bytes(data)
        assert_polite(Inside(tmp_path)("validate"), 3)
        assert_polite(Inside(tmp_path)("backup"), 3)

    def test_with_a_state_folder_that_cannot_be_one(
        self, service: Service, holdfast: Inside
    ) -> None:
        shutil.rmtree(service.folder / ".holdfast")
        (service.folder / ".holdfast").write_text("a file\n")
        for command in ("backup", "list", "status", "verify", "drill", "history"):
            assert_polite(holdfast(command), (0, 4))

    def test_with_targets_that_are_gone(self, service: Service, holdfast: Inside) -> None:
        for target in ("backups", "elsewhere"):
            shutil.rmtree(service.folder / target)
            (service.folder / target).write_text("a file\n")
        for command, statuses in (
            ("list", 4),
            ("status", 4),
            ("backup", 4),
            ("verify", (1, 4)),
            ("dr-restore", (1, 4)),
            ("drill", (1, 4)),
            ("doctor", 4),
            ("runbook", (1, 4)),
            ("prune", (0, 4)),
        ):
            assert_polite(holdfast(command), statuses)

    @pytest.mark.parametrize(
        "identifier", ["../../etc", "..", "/", "20261120T021500Z-../../x-7f3a9c", "\udcff", "𝄞\n"]
    )
    def test_with_odd_ids(self, holdfast: Inside, identifier: str) -> None:
        for words in (
            ["show", "--snapshot", identifier],
            ["show", "--run", identifier],
            ["verify", "--snapshot", identifier],
            ["restore", "--source", "db", "--snapshot", identifier],
            ["fetch", "--to", "x", "--snapshot", identifier],
            ["delete", "--snapshot", identifier],
            ["dr-restore", "--resume", identifier],
            ["restore", "--source", identifier],
            ["dr-restore", "--at", identifier],
        ):
            answer = holdfast(*words, "--json")
            assert_polite(answer, 1)
            assert answer.json["error"]["kind"] == "usage"
            assert_polite(holdfast(*words), 1)

    def test_with_a_name_that_is_no_text_on_a_real_standard_output(self, service: Service) -> None:
        for more in ([], ["--json"]):
            done = subprocess.run(
                [*service.program.arguments, "list", "--source", b"\xff", *more],
                cwd=service.folder,
                env=clean_environment(service.folder, LC_ALL="C", PYTHONUTF8="0"),
                capture_output=True,
                check=False,
            )
            assert done.returncode == 1
            assert b"Traceback" not in done.stdout + done.stderr

    @pytest.mark.parametrize("redirect", ["", "2>&1"])
    def test_into_a_pipe_that_is_closed_early(self, service: Service, redirect: str) -> None:
        words = " ".join(service.program.arguments)
        done = subprocess.run(
            ["bash", "-c", f"{words} backup {redirect} | true; echo ${{PIPESTATUS[0]}}"],
            cwd=service.folder,
            env=clean_environment(service.folder),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        assert done.stdout == "0\n"
        assert snapshots(service) == 2


class TestPrompt:
    def ask(
        self, service: Service, answer: str, words: str = "restore --source db"
    ) -> tuple[int, str]:
        """Run a command on a terminal, by default restore the database, and type an answer."""
        child, terminal = pty.fork()
        if child == 0:
            os.chdir(service.folder)
            arguments = [*service.program.arguments, *words.split()]
            os.execve(arguments[0], arguments, clean_environment(service.folder, TERM="xterm"))
        seen = b""
        typed = False
        while True:
            try:
                chunk = os.read(terminal, 4096)
            except OSError:  # the terminal's other end was closed
                break
            seen += chunk
            if b"to go on:" in seen and not typed:
                os.write(terminal, answer.encode() + b"\n")
                typed = True
        _, status = os.waitpid(child, 0)
        os.close(terminal)
        return os.waitstatus_to_exitcode(status), seen.decode()

    def test_takes_the_right_name_and_no_other(self, service: Service) -> None:
        service.change()
        changed = service.observe()["db"]
        status, text = self.ask(service, "yes")
        assert status == 7
        assert "The name did not match" in text
        assert service.observe()["db"] == changed
        status, text = self.ask(service, "db")
        assert status == 0
        assert "newer than this snapshot" in text
        assert "\x1b[3" not in text  # NO_COLOR is set
        assert service.observe()["db"] != changed

    def test_is_not_lost_behind_a_long_plan(self, service: Service) -> None:
        words = "dr-restore --dry-run"
        status, shown = self.ask(service, "", words)
        assert status == 0
        assert " more lines: piped to `less`, all are shown" in shown
        assert "point of no return" in shown
        whole = service.program(*words.split(), status=0).stdout
        assert " more lines" not in whole
        assert whole.count("\n") > shown.count("\n") + 20

    def test_is_never_shown_without_a_terminal(self, service: Service) -> None:
        answer = service.program("restore", "--source", "db", status=7)
        assert "Type db" not in answer.stderr
        assert "Give --confirm db" in answer.stderr


class TestInvoke:
    def test_does_the_same(self, service: Service) -> None:
        answer = invoke(service, "backup", "--json")
        assert answer.status == 0, str(answer)
        assert answer.json["status"] == "done"

    def test_ends_with_the_same_exit_codes(self, service: Service) -> None:
        assert_polite(invoke(service, "dr-restore"), 7)
        assert_polite(invoke(service, "backup", "--policy", "--json"), 1)
        assert_polite(invoke(service, "nothing"), 1)

    def test_runs_one_command_a_call(self, service: Service) -> None:
        answer = invoke(service, "validate", "backup")
        assert answer.status == 1, str(answer)
        assert "One command a call" in answer.stderr
        assert snapshots(service) == 1

    def test_its_dry_flag_restores_nothing(self, service: Service) -> None:
        answer = invoke(service, "--dry", "dr-restore", "--confirm", "quaybot")
        assert answer.status == 0, str(answer)
        assert service.log() == []


def test_quiet_says_nothing_but_errors(service: Service) -> None:
    answer = service.program("backup", "--quiet", status=0)
    assert answer.stdout + answer.stderr == ""
    answer = service.program("restore", "--source", "db", "--quiet", status=7)
    assert "--confirm db" in answer.stderr


def test_progress_goes_to_standard_error(service: Service) -> None:
    answer = service.program("backup", status=0)
    assert "nightly.db.capture" in answer.stderr
    assert "nightly.db.capture" not in answer.stdout
    assert "\x1b[" not in answer.stdout + answer.stderr


def test_a_stop_that_comes_before_the_run_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    from runner import face

    assert face.refuse(KeyboardInterrupt(), []).code == 130
    assert capsys.readouterr().err == "Error: Interrupted before anything was begun.\n"
