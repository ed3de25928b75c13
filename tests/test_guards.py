"""A saved plan replaces what it was made for, and nothing that came to stand there since."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.errors import PersonNeeded
from runner.execute.call import Call
from runner.owner import lock
from runner.prepare import perform
from runner.saved import apply
from tests.inside import Inside
from tests.service import SPEC, Service
from tests.tools import clean_environment, run
from tests.whole_stack import KILLED_AT

PLACES = {"db": "data/quaybot.db", "config": "config", "code": "code/.git"}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """A service with a snapshot."""
    service = Service(tmp_path_factory.mktemp("guards") / "original").build()
    Inside(service.folder)("backup", status=0)
    return service


@pytest.fixture
def service(original: Service, tmp_path: Path) -> Service:
    """A copy of that service, of this test alone."""
    shutil.copytree(original.folder, tmp_path / "service", symlinks=True)
    return Service(tmp_path / "service")


@pytest.fixture
def holdfast(service: Service) -> Inside:
    return Inside(service.folder)


def exchange(path: Path) -> None:
    """Put an equal copy where something stands, as a restore by hand does."""
    copy = path.with_name(f"{path.name}.new")
    if path.is_dir():
        shutil.copytree(path, copy, symlinks=True)
    else:
        shutil.copy2(path, copy)
    path.rename(path.with_name(f"{path.name}.old"))
    copy.rename(path)


def remove(path: Path) -> None:
    path.rename(path.with_name(f"{path.name}.gone"))


class TestASavedRestore:
    @pytest.mark.parametrize("source", PLACES)
    @pytest.mark.parametrize("change", [exchange, remove])
    def test_is_refused_once_somebody_exchanged_what_it_replaces(
        self, service: Service, holdfast: Inside, source: str, change: Callable[[Path], None]
    ) -> None:
        holdfast("restore", "--source", source, "--dry-run", "--out", "plan.json", status=0)
        change(service.folder / PLACES[source])
        before = service.observe()
        refused = holdfast.json("apply", "--plan", "plan.json", "--confirm", source, status=7)
        message = refused["error"]["message"]
        assert "The plan is stale" in message
        assert f"({source})" in message
        assert str(service.folder / PLACES[source].removesuffix("/.git")) in message
        assert service.observe() == before
        assert service.log() == []
        assert service.leftovers() == []

    @pytest.mark.parametrize("source", PLACES)
    def test_applies_where_only_the_content_changed(
        self, service: Service, holdfast: Inside, source: str
    ) -> None:
        holdfast("restore", "--source", source, "--dry-run", "--out", "plan.json", status=0)
        service.change()
        holdfast("apply", "--plan", "plan.json", "--confirm", source, status=0)

    def test_applies_where_nothing_stood_and_nothing_stands(
        self, service: Service, holdfast: Inside
    ) -> None:
        service.destroy()
        holdfast("restore", "--source", "db", "--dry-run", "--out", "plan.json", status=0)
        holdfast("apply", "--plan", "plan.json", "--confirm", "db", status=0)
        assert (service.folder / PLACES["db"]).is_file()

    def test_is_refused_where_something_came_into_being(
        self, service: Service, holdfast: Inside
    ) -> None:
        asked = ("restore", "--source", "db", "--to", "copy.db")
        holdfast(*asked, "--dry-run", "--out", "plan.json", status=0)
        (service.folder / "copy.db").write_text("somebody's only copy\n")
        refused = holdfast.json("apply", "--plan", "plan.json", "--confirm", "db", status=7)
        assert "absent then" in refused["error"]["message"]
        assert (service.folder / "copy.db").read_text() == "somebody's only copy\n"

    def test_is_refused_where_that_happened_while_another_run_was_waited_for(
        self, service: Service, holdfast: Inside, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        holdfast("restore", "--source", "db", "--dry-run", "--out", "plan.json", status=0)
        place = service.folder / PLACES["db"]

        def exchange_meanwhile(*words: Any, **options: Any) -> bool:
            monkeypatch.undo()
            exchange(place)
            return lock(*words, **options)

        monkeypatch.setattr("runner.execute.locks.lock", exchange_meanwhile)
        refused = holdfast.json("apply", "--plan", "plan.json", "--confirm", "db", status=7)
        assert "The plan is stale" in refused["error"]["message"]
        assert service.leftovers() == []

    def test_is_refused_also_where_a_killed_run_is_to_be_taken_back_first(
        self, service: Service, holdfast: Inside
    ) -> None:
        holdfast("restore", "--source", "db", "--dry-run", "--out", "plan.json", status=0)
        words = ("restore", "--source", "config", "--confirm", "config")
        killed = subprocess.run(
            [sys.executable, "-P", str(KILLED_AT), "config.confirm", *words],
            cwd=service.folder,
            env=clean_environment(service.folder),
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL
        exchange(service.folder / PLACES["db"])
        refused = holdfast.json("apply", "--plan", "plan.json", "--confirm", "db", status=7)
        assert "The plan is stale" in refused["error"]["message"]


class TestASavedRecovery:
    def test_is_refused_once_somebody_exchanged_one_of_its_places(
        self, service: Service, holdfast: Inside
    ) -> None:
        holdfast("dr-restore", "--dry-run", "--out", "plan.json", status=0)
        exchange(service.folder / PLACES["db"])
        refused = holdfast.json("apply", "--plan", "plan.json", "--confirm", "quaybot", status=7)
        assert "(db)" in refused["error"]["message"]
        assert service.log() == []

    def test_is_not_refused_for_what_its_own_earlier_steps_replaced(
        self, service: Service, holdfast: Inside
    ) -> None:
        # git brings tracked files into the place of another source, and a command makes the last.
        spec = SPEC.replace("paths: [config, .env]", "paths: [code/settings, .env]")
        provision = "recovery:\n  - {name: provision, run: 'mkdir -p data; touch data/quaybot.db'}"
        (service.folder / "backup.yaml").write_text(spec.replace("recovery:", provision))
        code = service.folder / "code"
        (code / "settings").mkdir()
        (code / "settings" / "app.toml").write_text("name = 'quay'\n")
        commit(code)
        holdfast("backup", status=0)
        expected = service.observe()
        service.destroy()
        holdfast("dr-restore", "--dry-run", "--out", "plan.json", status=0)
        holdfast("apply", "--plan", "plan.json", "--confirm", "quaybot", status=0)
        found = service.observe()
        assert (found["db"], found["code"]) == (expected["db"], expected["code"])
        assert (code / "settings" / "app.toml").read_text() == "name = 'quay'\n"


def commit(repository: Path) -> None:
    run("git", "add", ".", folder=repository)
    run("git", "commit", "-q", "-m", "settings", folder=repository)


def test_a_backup_of_one_plan_at_once_is_made_once(service: Service, holdfast: Inside) -> None:
    holdfast("backup", "--dry-run", "--out", "plan.json", status=0)
    # Both look at the targets, and the second one waits for the first.
    call = Call(service.folder / "backup.yaml")
    first, second = (apply(call, file=service.folder / "plan.json") for _ in range(2))
    assert perform(first).exit_code == 0
    (service.folder / "config" / "app.conf").write_text("changed = since\n")
    with pytest.raises(PersonNeeded, match="newer snapshot"):
        perform(second)
    holdfast("verify", status=0)


def test_a_resumed_run_is_not_held_to_what_was_there_at_its_beginning(
    service: Service, holdfast: Inside
) -> None:
    manual = SPEC.replace("recovery:", 'recovery:\n  - {name: disk, manual: "Mount the disk."}')
    (service.folder / "backup.yaml").write_text(manual)
    stopped = holdfast.json("dr-restore", "--confirm", "quaybot", status=7)
    exchange(service.folder / PLACES["db"])
    holdfast(*stopped["next"].split()[1:], status=0)


def test_a_plan_of_the_same_world_is_the_same_plan(holdfast: Inside) -> None:
    asked = ("dr-restore", "--dry-run")
    assert holdfast.json(*asked)["plan"] == holdfast.json(*asked)["plan"]


def test_a_drill_is_not_held_to_what_is_live(holdfast: Inside) -> None:
    holdfast("drill", status=0)


class TestACommandThatNeedsAVariable:
    @pytest.fixture(autouse=True)
    def spec(self, service: Service) -> None:
        deploy = 'deploy, env: {WHERE: "${QUAY_HOST}"}, run: "echo to $WHERE >> service.log", '
        text = SPEC.replace('deploy, run: "test -s .env && echo deployed >> service.log", ', deploy)
        assert deploy in text
        (service.folder / "backup.yaml").write_text(text)

    def test_is_not_run_without_it(self, service: Service, holdfast: Inside) -> None:
        ended = holdfast.json("dr-restore", "--confirm", "quaybot", status=4)
        assert ended["error"]["kind"] == "spec"
        assert ended["error"]["step"] == "deploy"
        assert "${QUAY_HOST} has no value" in ended["error"]["message"]
        assert "to" not in service.log()

    def test_gets_it_from_the_env_file_that_an_earlier_step_restored(
        self, service: Service, holdfast: Inside
    ) -> None:
        (service.folder / ".env").write_text("TOKEN=abc\nQUAY_HOST=harbour\n")
        holdfast("backup", status=0)
        service.destroy()
        holdfast("dr-restore", "--confirm", "quaybot", status=0)
        assert service.log()[-2:] == ["to", "harbour"]

    def test_is_not_run_by_a_saved_plan_once_it_has_another_value(
        self, service: Service, holdfast: Inside
    ) -> None:
        (service.folder / ".env").write_text("QUAY_HOST=harbour\n")
        holdfast("dr-restore", "--dry-run", "--out", "plan.json", status=0)
        (service.folder / ".env").write_text("QUAY_HOST=shore\n")
        refused = holdfast.json("apply", "--plan", "plan.json", "--confirm", "quaybot", status=7)
        assert "a variable that the spec expands has another value" in refused["error"]["message"]
        assert service.log() == []


class TestARemoteRepository:
    """Nothing is written to a remote, so a recovery needs to know where its clone stands."""

    def declare(self, service: Service, more: str = "") -> None:
        url = f"file://{service.folder}/origin.git"
        text = SPEC.replace("path: code", f'url: "{url}"{more}')
        (service.folder / "backup.yaml").write_text(text)

    @pytest.fixture(autouse=True)
    def remote(self, service: Service, holdfast: Inside) -> Path:
        """A backup of the remote exists, and the remote does not any more."""
        (service.folder / "code").rename(service.folder / "origin.git")
        self.declare(service)
        holdfast("backup", status=0)
        return (service.folder / "origin.git").rename(service.folder / "lost.git")

    def test_without_a_place_is_told_before_anything_is_done(
        self, service: Service, holdfast: Inside
    ) -> None:
        for more in (("--confirm", "quaybot"), ("--dry-run",)):
            message = holdfast.json("dr-restore", *more, status=7)["error"]["message"]
            assert "Add `path: FOLDER` to `sources.code`" in message
        assert service.log() == []
        assert holdfast.json("history")["runs"][0]["kind"] == "backup"

    def test_comes_back_as_a_clone_where_one_is_declared(
        self, service: Service, holdfast: Inside, remote: Path
    ) -> None:
        self.declare(service, ", path: code")
        holdfast("dr-restore", "--confirm", "quaybot", status=0)
        clone = service.folder / "code"
        assert (clone / "bot.py").read_text() == "print('quay')\n"
        listing = ("git", "for-each-ref", "refs/heads", "refs/tags")
        assert run(*listing, folder=clone).stdout == run(*listing, folder=remote).stdout

    def test_is_drilled_without_a_place(self, service: Service, holdfast: Inside) -> None:
        holdfast("drill", status=0)
        assert not (service.folder / "code").exists()

    def test_stands_in_the_runbook_either_way(self, service: Service, holdfast: Inside) -> None:
        assert "push from it what is missing there" in holdfast("runbook", status=0).stdout
        self.declare(service, ", path: code")
        assert f"{service.folder}/code" in holdfast("runbook", status=0).stdout
