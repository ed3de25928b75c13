"""The drill as its report tells it: scenarios, findings, the page, and the chain of evidence."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from runner.owner import alive, owner_of
from runner.store.seal import keygen
from tests.inside import Inside
from tests.service import SPEC, Service
from tests.tools import require_program


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """A service with two snapshots."""
    service = Service(tmp_path_factory.mktemp("drilled") / "original").build()
    program = Inside(service.folder)
    program("backup", status=0)
    service.change()
    time.sleep(1.1)  # an incident may be between the two, and is told in seconds
    program("backup", status=0)
    return service


@pytest.fixture
def service(original: Service, tmp_path: Path) -> Service:
    shutil.copytree(original.folder, tmp_path / "service", symlinks=True)
    return Service(tmp_path / "service")


@pytest.fixture
def holdfast(service: Service) -> Inside:
    return Inside(service.folder)


def report(document: Any) -> Any:
    return json.loads(Path(document["report"]).with_suffix(".json").read_text())


def drill(holdfast: Inside, *arguments: str, status: int = 0) -> Any:
    document = holdfast.json("drill", *arguments, status=status)
    return {**document, "facts": report(document)}


def evidence(holdfast: Inside, status: int) -> dict[str, tuple[str, str]]:
    rows = holdfast.json("history", "--drills", "--verify", status=status)["evidence"]
    return {one["run"]: (one["verdict"], one["reason"]) for one in rows}


def test_the_numbers_are_those_of_the_journal(service: Service, holdfast: Inside) -> None:
    facts = drill(holdfast)["facts"]
    path = service.folder / ".holdfast" / "runs" / facts["run"] / "journal.jsonl"
    events = [json.loads(line) for line in path.read_text().splitlines()]
    ended = {one["step"]: one for one in events if one["event"] == "ended"}
    began = {one["step"] for one in events if one["event"] == "started"}
    assert {one["step"] for one in facts["timeline"]} == began
    for one in facts["timeline"]:
        assert one["seconds"] == pytest.approx(ended[one["step"]]["seconds"], abs=0.001)
    spent = sum(phase["seconds"] for phase in facts["phases"].values())
    phased = [one for one in facts["timeline"] if one["phase"]]
    assert spent == pytest.approx(sum(one["seconds"] for one in phased), abs=0.05)
    assert set(facts["phases"]) == {"fetch", "restore", "verify", "serve"}
    assert events[-1]["details"]["rto"] == facts["rto"]


def test_a_target_is_lost(service: Service, holdfast: Inside) -> None:
    shutil.rmtree(service.folder / "backups" / "quaybot" / "default")
    facts = drill(holdfast, "--scenario", "target-lost", "--lost", "disk")["facts"]
    assert {one["target"] for one in facts["snapshots"].values()} == {"offsite"}
    assert facts["repeat"] == "holdfast drill --scenario target-lost --lost disk"
    alone = SPEC.replace("  offsite: {type: local, path: elsewhere}\n", "")
    (service.folder / "backup.yaml").write_text(alone)
    refused = holdfast.json("drill", "--scenario", "target-lost", "--lost", "disk", status=4)
    assert "no target left" in refused["error"]["message"]


def test_the_host_is_lost(service: Service, holdfast: Inside) -> None:
    cache = service.folder / ".holdfast" / "cache"
    shutil.rmtree(cache)
    holdfast("drill", "--scenario", "host-lost", "--dry-run", status=0)
    assert not cache.exists()
    assert drill(holdfast, "--scenario", "host-lost")["scenario"] == "host-lost"


def test_a_lost_host_takes_its_env_file_along(service: Service, holdfast: Inside) -> None:
    spec = SPEC.replace("paths: [config, .env]", "paths: [config]")
    spec = spec.replace("file: .env}", "file: config/app.toml}")
    spec = spec.replace("test -s .env && echo", "echo $SAID; echo")
    spec = spec.replace(
        "drill: same}\n  - {name: answers",
        "env: {SAID: '${TOKEN}'}, drill: same}\n  - {name: answers",
    )
    (service.folder / "backup.yaml").write_text(spec)
    holdfast("backup", status=0)
    drill(holdfast)
    (lost,) = rows_of(drill(holdfast, "--scenario", "host-lost", status=4))
    assert lost["verdict"] == "FAIL"
    assert "${TOKEN} has no value" in lost["name"]
    # What is set for the drill is what a person would set on the bad day.
    by_hand = Inside(service.folder, {"TOKEN": "from the safe"})
    (found,) = rows_of(drill(by_hand, "--scenario", "host-lost"))
    assert found["verdict"] == "PASS"


def rows_of(document: Any) -> list[Any]:
    return [one for one in document["facts"]["checks"] if one["kind"] == "host"]


def test_a_lost_host_is_recovered_by_the_spec_in_the_snapshot(
    service: Service, holdfast: Inside
) -> None:
    written = service.folder / "backup.yaml"
    # The variable comes back with the files, and the commands after that have it.
    said = "{name: said, env: {SAID: '${TOKEN}'}, run: 'test $SAID = abc', drill: same}"
    written.write_text(SPEC.replace("  - {name: answers", f"  - {said}\n  - {{name: answers"))
    refused = holdfast.json("drill", "--scenario", "host-lost", status=7)
    assert "is not the one here" in refused["error"]["message"]
    holdfast("backup", status=0)
    (service.folder / ".env").write_text("TOKEN=of this host\n")
    found = drill(holdfast, "--scenario", "host-lost", "--from", "offsite")
    assert {one["target"] for one in found["facts"]["snapshots"].values()} == {"offsite"}
    assert found["facts"]["supposed"].startswith("host-lost: the host is gone")


def test_a_lost_host_needs_the_identity_from_the_safe(tmp_path: Path) -> None:
    service = Service(tmp_path / "service").build()
    own, public = keygen()
    (service.folder / "own.key").write_text(own)
    secret = '{secret: "file:own.key"}'
    more = f"encryption: {{recipients: [{public}], identity: {secret}}}\n"
    (service.folder / "backup.yaml").write_text(SPEC + more)
    holdfast = Inside(service.folder)
    holdfast("backup", status=0)
    refused = holdfast.json("drill", "--scenario", "host-lost", status=7)
    assert "--identity FILE" in refused["error"]["message"]
    safe = (service.folder / "own.key").rename(tmp_path / "safe.key")
    drill(holdfast, "--scenario", "host-lost", "--identity", str(safe))


def test_what_a_killed_drill_was_running_is_swept(service: Service, tmp_path: Path) -> None:
    done, said, served = tmp_path / "done", tmp_path / "said", tmp_path / "served"
    serve = f"test -e {done} || {{ setsid sleep 9999 & echo $! > {served}; }}"
    endless = f"test -e {done} || {{ sleep 9999 & echo $! > {said}; wait; }}"
    entry = f'  - {{name: serve, run: "true", drill: "{serve}"}}\n'
    entry += f'  - {{name: endless, run: "true", drill: "{endless}"}}\n'
    (service.folder / "backup.yaml").write_text(SPEC.replace("checks:", f"{entry}checks:"))
    with service.program.start("drill") as process:
        deadline = time.monotonic() + 60
        while not (said.exists() and said.read_text().strip()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
        process.wait()
    left = [owner_of(int(one.read_text())) for one in (said, served)]
    assert all(alive(one) for one in left)
    done.touch()
    facts = drill(Inside(service.folder))["facts"]
    assert len(facts["swept"]) == 1
    assert not any(alive(one) for one in left)


def test_what_a_command_leaves_behind_ends_with_the_drill(
    service: Service, holdfast: Inside
) -> None:
    commands = "sleep 600 & echo $! > PIDS; setsid sleep 600 & echo $! >> PIDS".replace(
        "PIDS", str(service.folder / "pids")
    )
    spec = SPEC.replace(
        "checks:", f'  - {{name: serve, run: "true", drill: "{commands}"}}\nchecks:'
    )
    (service.folder / "backup.yaml").write_text(spec)
    drill(holdfast)
    for pid in (service.folder / "pids").read_text().split():
        with suppress(ProcessLookupError):
            assert not alive(owner_of(int(pid)))


def test_a_random_choice_can_be_repeated(holdfast: Inside) -> None:
    facts = drill(holdfast, "--scenario", "random")["facts"]
    (chosen,) = {one["id"] for one in facts["snapshots"].values()}
    assert facts["repeat"] == f"holdfast drill --snapshot {chosen}"
    again = drill(holdfast, *facts["repeat"].split()[2:])["facts"]
    assert again["snapshots"]["db"]["id"] == chosen


def test_the_key_is_lost(tmp_path: Path) -> None:
    service = Service(tmp_path / "service").build()
    (own, public), (escrow, other) = keygen(), keygen()
    for name, key in (("own.key", own), ("escrow.key", escrow)):
        (tmp_path / name).write_text(key)
    more = (
        f"encryption:\n  recipients: [{public}, {other}]\n"
        f'  identity: {{secret: "file:{tmp_path / "own.key"}"}}\n'
    )
    (service.folder / "backup.yaml").write_text(SPEC + more)
    holdfast = Inside(service.folder)
    holdfast("backup", status=0)
    key_lost = ("drill", "--scenario", "key-lost")
    assert "--identity" in holdfast.json(*key_lost, status=1)["error"]["message"]
    holdfast.json(*key_lost, "--identity", tmp_path / "own.key", status=1)
    (tmp_path / "printed.key").write_text(f"# Typed in again from paper.\n{own.split()[-1]}\n")
    (tmp_path / "both.key").write_text(escrow + own)
    for name in ("printed.key", "both.key"):
        refused = holdfast.json(*key_lost, "--identity", tmp_path / name, status=1)
        assert "whose loss is supposed" in refused["error"]["message"]
    (tmp_path / "own.key").unlink()
    holdfast.json(*key_lost, "--identity", tmp_path / "escrow.key", status=0)
    (tmp_path / "wrong.key").write_text(keygen()[0])
    lost = holdfast.json(*key_lost, "--identity", tmp_path / "wrong.key", status=5)
    assert "No given identity opens" in lost["error"]["message"]
    assert report(lost)["verdict"] == "OBJECTIVE MISSED"


@pytest.mark.parametrize(
    "words",
    [
        ("--scenario", "meteor"),
        ("--scenario", "at"),
        ("--scenario", "target-lost"),
        ("--lost", "disk"),
        ("--scenario", "random", "--at", "2026-11-20"),
        ("--scenario", "target-lost", "--lost", "moon"),
        ("--incident", "soon"),
        ("--incident", "2999-01-01"),
    ],
)
def test_options_that_do_not_go_together(holdfast: Inside, words: tuple[str, ...]) -> None:
    assert holdfast.json("drill", *words, status=1)["error"]["kind"] == "usage"


def test_the_rpo_is_judged_at_the_incident(service: Service, holdfast: Inside) -> None:
    newest, older = holdfast.json("list")["snapshots"]
    moment = datetime.fromisoformat(older["taken_at"]) + timedelta(seconds=1)
    incident = moment.isoformat()
    facts = drill(holdfast, "--incident", incident)["facts"]
    assert {one["id"] for one in facts["snapshots"].values()} == {older["id"]} != {newest["id"]}
    assert facts["rpo"]["db"]["measured"] <= 2.0


def test_what_nobody_can_tell_is_never_passed(service: Service, holdfast: Inside) -> None:
    unknown = SPEC.replace("checks:", '  - {name: dns, manual: "Point it here."}\nchecks:')
    (service.folder / "backup.yaml").write_text(unknown)
    document = drill(holdfast, status=7)
    assert document["rto"]["system"]["met"] is None
    assert document["facts"]["verdict"] == "NOT PROVEN"
    assert "`expected` time" in document["error"]["message"]
    (service.folder / "backup.yaml").write_text(unknown.replace("here.", 'here.", expected: "9m'))
    measured = drill(holdfast)["rto"]["system"]["measured"]
    assert 540 < measured < 600


def test_where_no_report_can_be_written_nothing_is_drilled(
    service: Service, holdfast: Inside
) -> None:
    (service.folder / "reports").write_text("no folder")
    answer = holdfast("drill", "--report-dir", "reports", status=4)
    assert "reports" in answer.stderr
    assert "stage" not in answer.stderr
    assert not list((service.folder / ".holdfast" / "runs").glob("*-drill-*"))


@pytest.mark.parametrize("question", ["http: 'http://127.0.0.1:1/'", "tcp: '127.0.0.1:1'"])
def test_what_is_not_asked_in_a_drill_counts_all_the_same(
    service: Service, holdfast: Inside, question: str
) -> None:
    step = f"  - {{name: healthy, probe: {{{question}}}, drill: same}}\n"
    spec = SPEC.replace("checks:", f"{step}checks:")
    (service.folder / "backup.yaml").write_text(spec)
    assert "cannot know its time" in holdfast("validate").stdout
    assert drill(holdfast, status=7)["rto"]["system"]["met"] is None
    timed = spec.replace("drill: same}\nchecks", "drill: same, expected: 2h}\nchecks")
    (service.folder / "backup.yaml").write_text(timed)
    document = drill(holdfast, status=5)
    assert document["rto"]["system"]["measured"] > 7200
    assert {one["name"]: one["verdict"] for one in document["checks"]}["healthy"] == "SKIP"


def test_open_findings_are_carried_over(service: Service, holdfast: Inside) -> None:
    findings = service.folder / ".holdfast" / "drills" / "findings.yaml"
    assert drill(holdfast)["facts"]["findings"] == []
    findings.write_text("- finding: The key was hard to find.\n  owner: mara\n  due: 2026-12-31\n")
    document = drill(holdfast)
    assert document["facts"]["findings"][0]["due"] == "2026-12-31"
    for suffix in (".md", ".html"):
        page = Path(document["report"]).with_suffix(suffix).read_text()
        assert "The key was hard to find." in page
    findings.write_text(findings.read_text() + "  closed: 2027-01-02\n")
    assert drill(holdfast)["facts"]["findings"] == []
    findings.write_text("- fnding: [")
    assert "cannot be read" in drill(holdfast)["facts"]["findings_trouble"]


def test_the_page_needs_nothing_else_and_escapes_what_it_shows(
    service: Service, holdfast: Inside
) -> None:
    evil = "<script>alert(1)</script>"
    (service.folder / "backup.yaml").write_text(SPEC.replace("players exist", evil))
    page = Path(drill(holdfast)["report"]).with_suffix(".html").read_text()
    assert evil not in page
    assert not re.search(r"<(script|link|img|iframe)|src=|url\(|href=", page)
    charts = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(charts) == 3
    for chart in charts:
        ET.fromstring(chart)
    assert "code.stage" in charts[0]
    assert ">RTO<" in charts[0]


@pytest.mark.parametrize("suffix", [".json", ".md", ".html"])
def test_a_changed_report_is_seen(holdfast: Inside, suffix: str) -> None:
    first = drill(holdfast)
    time.sleep(1.1)  # the order of drills is that of their seconds
    second = drill(holdfast)
    assert second["facts"]["evidence"]["previous"]["run"] == first["run"]
    assert {verdict for verdict, _ in evidence(holdfast, 0).values()} == {"PASS"}
    path = Path(first["report"]).with_suffix(suffix)
    path.write_text(path.read_text().replace("PASSED", "PASSED "))
    assert evidence(holdfast, 4)[first["run"]] == ("FAIL", f"{path.name} was changed")


def test_a_changed_journal_and_a_lost_record_are_seen(service: Service, holdfast: Inside) -> None:
    first = drill(holdfast)
    time.sleep(1.1)  # the order of drills is that of their seconds
    second = drill(holdfast)
    journal = service.folder / ".holdfast" / "runs" / second["run"] / "journal.jsonl"
    journal.write_text(journal.read_text().replace('"seconds":', '"seconds": '))
    assert "journal" in evidence(holdfast, 4)[second["run"]][1]
    for path in service.folder.rglob("*-drill-*.json"):
        if path.parent.name == ".records" and first["run"] in path.read_text():
            path.unlink()
    found = evidence(holdfast, 4)
    assert "is gone" in found[second["run"]][1]
    assert found[first["run"]] == ("FAIL", "its record is gone from the targets")
    shutil.rmtree(service.folder / ".holdfast" / "drills")
    assert evidence(holdfast, 7)[second["run"]][0] == "COULD-NOT-VERIFY"


def test_a_report_is_signed(service: Service, holdfast: Inside, tmp_path: Path) -> None:
    keygen_program = require_program("ssh-keygen")
    key = tmp_path / "signing"
    subprocess.run([keygen_program, "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    public = key.with_suffix(".pub").read_text()
    signers = tmp_path / "signers"
    signers.write_text(f"mara@quay {public}")
    signing = f'signing: {{key: {{secret: "file:{key}"}}, allowed_signers: {signers}}}\n'
    (service.folder / "backup.yaml").write_text(SPEC + signing)
    holdfast("backup", status=0)
    run = drill(holdfast)["run"]
    assert evidence(holdfast, 0)[run] == ("PASS", "signed")
    subprocess.run([keygen_program, "-q", "-t", "ed25519", "-N", "", "-f", f"{key}2"], check=True)
    signers.write_text(f"mara@quay {Path(f'{key}2.pub').read_text()}")
    assert evidence(holdfast, 4)[run][0] == "FAIL"
