"""Steps of a recovery that are not restores: people told and asked, probes over TLS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.source import Artifacts, Place
from runner.source.files import FilesSource
from tests.chat_server import serving
from tests.faults.bad_day import Steady
from tests.inside import Inside
from tests.service import Service
from tests.test_journeys import run_blocks
from tests.tools import require_program, run

SECRET = "T0K3N-of-the-chat"


@pytest.fixture
def service(tmp_path: Path) -> Service:
    service = Service(tmp_path / "service").build()
    Steady(service.folder)("backup", status=0)
    return service


def declared(service: Service, *steps: dict[str, Any], **environment: str) -> Steady:
    """The service with another recovery."""
    path = service.folder / "backup.yaml"
    spec = yaml.safe_load(path.read_text())
    spec["recovery"] = [{"restore": ["code", "config", "db"]}, *steps]
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    return Steady(service.folder, environment)


def test_people_are_told(service: Service) -> None:
    with serving() as chat:
        address = f"http://127.0.0.1:{chat.server_port}/{SECRET}"
        program = declared(
            service,
            {"name": "incident", "notify": {"text": "We restore.", "post": {"secret": "env:CHAT"}}},
            {"name": "broken", "run": "printf 'one\ntwo\n' >&2; false"},
            {
                "name": "trouble",
                "notify": {"text": "It's bad.", "run": 'echo "$HOLDFAST_TEXT" > told'},
                "when": "failure",
            },
            {"name": "after", "notify": {"text": "Ended.", "post": address}, "when": "always"},
            CHAT=address,
        )
        shown = program("dr-restore", "--dry-run", status=0).stdout
        assert "We restore." in shown
        document = program.json("dr-restore", "--confirm", "quaybot", status=4)
    assert all(one.startswith(("RUN", "20")) for one in program("history").stdout.splitlines())
    said = [one for _, one in chat.heard]
    assert [(one["text"], one["status"]) for one in said] == [
        ("We restore.", "running"),
        ("Ended.", "failed"),
    ]
    assert {one["run"] for one in said} == {document["run"]}
    assert (service.folder / "told").read_text() == "It's bad.\n"
    journal = "".join(one.read_text() for one in service.folder.rglob("journal.jsonl"))
    assert SECRET not in journal + shown


def test_nobody_to_tell_changes_nothing(service: Service) -> None:
    with serving() as chat:
        address = f"http://127.0.0.1:{chat.server_port}/missing"
        program = declared(
            service,
            {"name": "hook", "notify": {"text": "We restore.", "post": address}},
            {"name": "unset", "notify": {"text": "x", "post": {"secret": "env:NOWHERE"}}},
            {"name": "fails", "notify": {"text": "x", "run": "exit 3"}},
            {"name": "goes-on", "run": "echo on > went-on"},
        )
        answer = program("dr-restore", "--confirm", "quaybot", status=0)
    for words in ("hook: nobody was told: the server answered 404", "unset: nobody", "fails: nob"):
        assert words in answer.stdout
    assert (service.folder / "went-on").exists()
    # The steps that a drill leaves out have no expected time, so its RTO is unknown.
    drilled = program("drill", "--report-dir", "reports", "--json").json
    assert len(chat.heard) == 1
    assert {one["id"]: one["status"] for one in drilled["steps"]}["hook"] == "skipped"


def test_a_person_reports_what_was_checked(service: Service) -> None:
    manual = {
        "name": "dns",
        "manual": "Point the DNS record here.",
        "checklist": ["the A record", "the AAAA record"],
        "expected": "10m",
    }
    program = declared(service, manual)
    answer = program("dr-restore", "--confirm", "quaybot", status=7)
    assert "[ ] the AAAA record" in answer.stderr
    assert "[ ] the A record" in program("dr-restore", "--dry-run", status=0).stdout
    waiting = program.json("history", "--runs")["runs"][0]["run"]
    resumed = ("dr-restore", "--resume", waiting, "--done", "dns")
    document = program.json(*resumed, "--by", "Ann Example")
    assert [(one["id"], one["by"]) for one in document["manual"]] == [("dns", "Ann Example")]
    assert document["manual"][0]["at"]
    (journal,) = service.folder.glob(f".holdfast/runs/{waiting}/journal.jsonl")
    (event,) = [
        one for line in journal.read_text().splitlines()
        if (one := json.loads(line))["event"] == "reported"
    ]  # fmt: skip
    assert (event["step"], event["by"]) == ("dns", "Ann Example")
    assert "--resume" in program("dr-restore", "--by", "Ann", status=1).stderr


def test_what_was_done_between_two_people_is_done_once(service: Service) -> None:
    program = declared(
        service,
        {"name": "dns", "manual": "Point it here."},
        {"name": "broken", "run": "test -e mended"},
        {"name": "alarm", "notify": {"text": "Lost.", "run": "echo x >> alarm"}, "when": "failure"},
        {"name": "told", "notify": {"text": "x", "run": "echo $HOLDFAST_STATUS >> told"},
         "when": "always"},
    )  # fmt: skip
    path = service.folder / "backup.yaml"
    spec = yaml.safe_load(path.read_text())
    spec["recovery"].insert(0, {"name": "hall", "manual": "Unlock the hall."})
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    wanted = service.observe()
    service.destroy()
    answer = program("dr-restore", "--confirm", "quaybot", status=7)
    waiting = program.json("history", "--runs")["runs"][0]["run"]
    resumed = ("dr-restore", "--resume", waiting)
    assert "own step" in program(*resumed, "--done", "code.stage", status=1).stderr
    assert "--done dns" in program(*resumed, "--done", "hall", status=7).stderr
    assert not (service.folder / "alarm").exists(), answer
    assert service.observe() == wanted
    program(*resumed, "--done", "dns", status=4)
    assert (service.folder / "alarm").read_text() == "x\n"
    (service.folder / "mended").touch()
    assert "alarm: " not in program(*resumed, status=0).stdout
    assert service.observe() == wanted
    assert service.log() == ["stop", "start"]
    assert (service.folder / "told").read_text().split() == ["running"] * 2 + ["failed", "running"]


def test_a_command_is_repeated_and_what_stands_in_its_place_stays(service: Service) -> None:
    program = declared(service, {"name": "broken", "run": "test -e mended"})
    path = service.folder / "backup.yaml"
    spec = yaml.safe_load(path.read_text())
    spec["recovery"].insert(0, {"name": "provision", "run": "echo provisioned >> told"})
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    wanted = service.observe()
    service.change()
    program("dr-restore", "--confirm", "quaybot", status=4)
    waiting = program.json("history", "--runs")["runs"][0]["run"]
    resumed = ("dr-restore", "--resume", waiting)
    said = program(*resumed, "--start-at", "config.stage", status=1).stderr
    assert "config stands in its place" in said
    (service.folder / "mended").touch()
    program(*resumed, "--start-at", "provision", status=0)
    assert service.observe() == wanted
    assert (service.folder / "told").read_text() == "provisioned\n" * 2
    assert service.log() == ["stop", "start"]


def test_who_did_it_is_the_user_and_the_host_unless_told(service: Service) -> None:
    program = declared(service, {"name": "dns", "manual": "Point it here."})
    program("dr-restore", "--confirm", "quaybot", status=7)
    waiting = program.json("history", "--runs")["runs"][0]["run"]
    document = program.json("dr-restore", "--resume", waiting, "--done", "dns")
    assert "@" in document["manual"][0]["by"]


def test_a_run_goes_on_with_the_profile_that_it_began_with(service: Service) -> None:
    path = service.folder / "backup.yaml"
    twin = yaml.safe_load(path.read_text()) | {"profiles": {"twin": {}}}
    path.write_text(yaml.safe_dump(twin, sort_keys=False))
    program = declared(service, {"name": "dns", "manual": "Point it here."})
    program("dr-restore", "--confirm", "quaybot", status=7)
    waiting = program.json("history", "--runs")["runs"][0]["run"]
    resumed = ("dr-restore", "--resume", waiting, "--done", "dns")
    assert "--profile default" in program(*resumed, "--profile", "twin", status=7).stderr
    program(*resumed, status=0)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    require_program("openssl")
    path = tmp_path / "server.pem"
    run(
        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=127.0.0.1"),
        *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", tmp_path / "key", "-out", path),
        folder=tmp_path,
    )
    path.write_text(path.read_text() + (tmp_path / "key").read_text())
    return path


@pytest.mark.parametrize(
    ("options", "status"),
    [({"ca": "ca.pem"}, 0), ({"insecure": True}, 0), ({}, 4), ({"ca": "missing.pem"}, 7)],
)
def test_a_probe_trusts_whom_it_is_told_to(
    service: Service, certificate: Path, options: dict[str, Any], status: int
) -> None:
    (service.folder / "ca.pem").write_text(certificate.read_text().partition("-----BEGIN PRIV")[0])
    with serving(certificate) as server:
        url = f"https://127.0.0.1:{server.server_port}/"
        probe = {"http": url, "body": "well", **options}
        program = declared(service, {"name": "answers", "probe": probe})
        program("dr-restore", "--confirm", "quaybot", status=status)


def test_a_probe_has_the_environment_and_the_folder_of_its_step(service: Service) -> None:
    program = declared(
        service,
        {
            "name": "looks",
            "probe": {"run": 'test "$WANTED" = yes && test -f app.toml'},
            "env": {"WANTED": "yes"},
            "working_dir": "config",
        },
    )
    program("dr-restore", "--confirm", "quaybot", status=0)


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ({"notify": {"text": "x"}}, "run"),
        ({"notify": {"text": "x", "run": "true", "post": "https://x.example"}}, "post"),
        ({"run": "true", "checklist": ["x"]}, "manual only"),
        ({"probe": {"tcp": "x:1", "insecure": True}}, "http only"),
        ({"notify": {"text": "x", "run": "true"}, "drill": "same"}, "run or probe only"),
    ],
)
def test_what_makes_no_sense_is_refused(service: Service, step: Any, words: str) -> None:
    answer = declared(service, {"name": "odd", **step})("validate", status=3)
    assert words in answer.stdout


def test_what_could_not_be_asked_says_why(service: Service) -> None:
    emptied = {"sql": "delete from players", "source": "db"}  # a probe only reads
    program = declared(service, {"name": "odd", "probe": emptied})
    document = program.json("dr-restore", "--confirm", "quaybot", status=7)
    assert "attempt to write a readonly database" in document["error"]["message"]


def test_a_probe_looks_in_the_same_tree_live_and_in_a_drill(service: Service) -> None:
    """The paths of a restored tree begin in the spec's folder, and a clone's in the clone."""
    program = declared(
        service,
        {"name": "settings", "probe": {"file": "config/app.toml", "source": "config"}},
        {"name": "hidden", "probe": {"file": ".env", "source": "config"}},
        {"name": "reads", "probe": {"run": "test -s config/app.toml", "source": "config"}},
        {"name": "program", "probe": {"file": "bot.py", "source": "code"}},
        {"name": "stands", "probe": {"run": "test -s bot.py", "source": "code"}},
        {"name": "beside", "probe": {"run": "test -s quaybot.db", "source": "db"}},
    )
    path = service.folder / "backup.yaml"
    spec = yaml.safe_load(path.read_text())
    for step in spec["recovery"][1:]:
        step["drill"] = "same"
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    program("drill", status=0)
    program("dr-restore", "--confirm", "quaybot", status=0)


def test_the_runbook_does_what_the_recovery_does(service: Service, tmp_path: Path) -> None:
    told = {
        "text": "All is back.",
        "run": 'echo "$WHOM: $HOLDFAST_TEXT" >> ../told; : "$HOLDFAST_PROJECT $HOLDFAST_RUN '
        '$HOLDFAST_STATUS"',
    }
    program = declared(
        service,
        {"name": "looks", "probe": {"run": 'test "$WHOM" = mara && test -s app.toml'}},
        {"name": "refuses", "probe": {"run": "exit 3", "expect": 3}},
        {"name": "settings", "probe": {"file": "config/app.toml", "source": "config"}},
        {"name": "tells", "notify": told},
        {"name": "tells-nobody", "notify": {"text": "x", "run": "exit 3"}},
        {"name": "gives-up", "run": "echo lost >> ../told", "when": "failure"},
        {"name": "ends", "run": "echo ended >> ../told", "when": "always"},
    )
    path = service.folder / "backup.yaml"
    spec = yaml.safe_load(path.read_text())
    surroundings = {"env": {"WHOM": "mara"}, "working_dir": "config"}
    for step in spec["recovery"][1:]:
        if "source" not in step.get("probe", {}):
            step.update({"working_dir": "config"} if "run" in step else surroundings)
    bot = {"stop": "echo stop $WHOM >> ../told", "start": "echo start $WHOM >> ../told"}
    spec["services"] = {"bot": {**bot, "sources": ["db", "config"], **surroundings}}
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    document = program.json("runbook")["document"]
    program("dr-restore", "--confirm", "quaybot", status=0)
    by_the_tool = (service.folder / "told").read_text()
    assert by_the_tool == "stop mara\nstart mara\nmara: All is back.\nended\n"
    (service.folder / "told").unlink()
    service.destroy()  # where nothing is, nothing can be stopped
    workshop = tmp_path / "workshop"
    workshop.mkdir()
    run_blocks(document, workshop)
    assert (service.folder / "told").read_text() == by_the_tool.removeprefix("stop mara\n")
    assert "echo lost" in document


def checked_by_who_writes(service: Service) -> None:
    """Have the check of `config` write to what it looks at."""
    path = service.folder / "backup.yaml"
    spec = yaml.safe_load(path.read_text())
    writes = "find . -type f -exec sh -c 'echo broken > {}' ';'; touch new"
    spec["checks"] = {"config": [{"name": "compiles", "run": writes}]}
    path.write_text(yaml.safe_dump(spec, sort_keys=False))


def test_what_a_check_writes_does_not_go_live(service: Service, tmp_path: Path) -> None:
    checked_by_who_writes(service)
    place = tmp_path / "restored"
    words = ("restore", "--source", "config", "--to", str(place))
    document = Steady(service.folder).json(*words, status=0)
    assert document["proof"] == [{"source": "config", "equal": True, "differences": []}]
    assert not (place / "new").exists()
    assert b"broken\n" not in {one.read_bytes() for one in place.rglob("*") if one.is_file()}


def test_what_is_staged_anew_after_such_a_check_is_proven_anew(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked_by_who_writes(service)
    stage, staged = FilesSource.stage, list[Path]()

    def worse_the_second_time(source: FilesSource, artifacts: Artifacts, at: Place) -> None:
        stage(source, artifacts, at)
        tree = source.staged(at)
        assert tree is not None
        if staged:
            next(one for one in tree.rglob("*") if one.is_file()).write_text("worse")
        staged.append(tree)

    monkeypatch.setattr(FilesSource, "stage", worse_the_second_time)
    place = tmp_path / "restored"
    answer = Inside(service.folder)("restore", "--source", "config", "--to", place, status=4)
    assert "The restored config differs from the snapshot" in answer.stderr
    assert len(staged) == 2
    assert not place.exists()


def test_what_comes_after_a_step_that_always_runs_waits_for_its_success(service: Service) -> None:
    program = declared(
        service,
        {"name": "audit", "run": "false", "when": "always"},
        {"name": "go-live", "run": "touch live"},
    )
    answer = program("dr-restore", "--confirm", "quaybot", status=4)
    assert "go-live  needs audit, which failed" in answer.stderr + answer.stdout
    assert not (service.folder / "live").exists()


def test_a_person_is_waited_for_whatever_happened_before(service: Service) -> None:
    program = declared(
        service,
        {"name": "permit", "manual": "Ask for permission.", "when": "always"},
        {"name": "go-live", "run": "touch live"},
    )
    run_id = program.json("dr-restore", "--confirm", "quaybot", status=7)["run"]
    assert not (service.folder / "live").exists()
    program("dr-restore", "--resume", run_id, "--done", "permit", status=0)
    assert (service.folder / "live").exists()


def test_a_probe_is_asked_again_as_often_as_declared(service: Service) -> None:
    asked = "echo asked >> asked; test $(wc -l < asked) -ge 2"
    program = declared(service, {"name": "healthy", "probe": {"run": asked}, "retries": 1})
    program("dr-restore", "--confirm", "quaybot", status=0)


def test_a_restore_that_takes_too_long_is_given_up_before_anything_is_replaced(
    service: Service,
) -> None:
    path = service.folder / "backup.yaml"
    spec = yaml.safe_load(path.read_text())
    spec["recovery"] = [{"restore": ["code", "config", "db"], "timeout": "1ms", "retries": 1}]
    path.write_text(yaml.safe_dump(spec, sort_keys=False))
    answer = Steady(service.folder)("dr-restore", "--confirm", "quaybot", status=4)
    assert "longer than its timeout" in answer.stderr
    assert not list(service.folder.glob("*.before-*"))


def test_steps_that_replace_nothing_are_not_told_as_replacing(service: Service) -> None:
    program = declared(service, {"name": "deploy", "run": "true"}, {"name": "dns", "run": "true"})
    said = program.json("dr-restore", "--steps", "deploy", status=7)["error"]["message"]
    assert "deploy" in said
    assert "safety copy" not in said
    program("dr-restore", "--steps", "deploy", "--confirm", "quaybot", status=0)
    program("dr-restore", "--steps", "deploy", "--start-at", "dns", status=1)
