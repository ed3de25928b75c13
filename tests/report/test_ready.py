"""Whether a recovery could start now, and the same for machines that read JUnit XML."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from runner.report.junit import junit
from runner.report.outcome import Outcome
from runner.store.seal import keygen
from tests.inside import Inside
from tests.service import SPEC, Service


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Service:
    service = Service(tmp_path_factory.mktemp("ready") / "original").build()
    Inside(service.folder)("backup", status=0)
    return service


@pytest.fixture
def service(original: Service, tmp_path: Path) -> Service:
    shutil.copytree(original.folder, tmp_path / "service", symlinks=True)
    return Service(tmp_path / "service")


@pytest.fixture
def holdfast(service: Service) -> Inside:
    return Inside(service.folder)


def troubles(holdfast: Inside, status: int, *arguments: str | Path) -> dict[str, str]:
    document = holdfast.json("status", "--ready", *arguments, status=status)
    assert document["ready"] is (status == 0)
    return {one["what"]: one["found"] for one in document["points"]
            if one["verdict"] not in ("PASS", "SKIP")}  # fmt: skip


def test_all_is_there_and_nothing_is_restored(service: Service, holdfast: Inside) -> None:
    before = service.observe()
    assert troubles(holdfast, 0) == {}
    assert service.observe() == before
    line = holdfast("status", "--ready", "--quiet", status=0).stdout
    assert line.startswith("READY: ")
    assert line.count("\n") == 1
    service.destroy()  # which is when it is asked
    assert troubles(holdfast, 0) == {}


def test_a_target_that_is_gone_or_behind(service: Service, holdfast: Inside) -> None:
    folder = service.folder / "elsewhere" / "quaybot" / "default"
    (snapshot,) = folder.glob("2*")
    shutil.rmtree(snapshot)
    assert set(troubles(holdfast, 4)) == {f"{name} at offsite" for name in ("db", "config", "code")}
    shutil.rmtree(service.folder / "elsewhere")
    (service.folder / "elsewhere").write_text("no folder")
    assert "cannot be read" in troubles(holdfast, 4)["target offsite"]
    said = holdfast("status", "--ready", "--quiet", status=4).stdout
    assert said.startswith("NOT READY: target offsite: ")


def test_what_is_old_or_overdue(service: Service, holdfast: Inside) -> None:
    late = SPEC.replace("rpo: 26h", "rpo: 1ms, proof_every: 7d")
    late = late.replace("{rto: 1h}", "{rto: 1h, drill_every: 90d}")
    (service.folder / "backup.yaml").write_text(late)
    time.sleep(1 - time.time() % 1)  # ages are in whole seconds
    found = troubles(holdfast, 5)
    assert set(found) == {"db at disk", "db at offsite", "drill", "proof of db"}
    assert "Next: holdfast drill" in found["drill"]
    holdfast("verify", "--level", "restored", status=0)
    assert "proof of db" not in troubles(holdfast, 5)


def test_the_key_must_open_what_is_stored(tmp_path: Path) -> None:
    service = Service(tmp_path / "service").build()
    identity, public = keygen()
    key = tmp_path / "quay.key"
    key.write_text(identity)
    (service.folder / "backup.yaml").write_text(
        f'{SPEC}encryption: {{recipients: [{public}], identity: {{secret: "file:{key}"}}}}\n'
    )
    holdfast = Inside(service.folder)
    holdfast("backup", status=0)
    assert troubles(holdfast, 0) == {}
    key.write_text(keygen()[0])
    assert "opens" in troubles(holdfast, 7)["identity"]
    key.rename(tmp_path / "moved")
    assert set(troubles(holdfast, 7)) == {"identity"}
    (tmp_path / "escrow").write_text(identity)
    assert troubles(holdfast, 0, "--identity", tmp_path / "escrow") == {}


def test_each_snapshot_that_is_needed_must_open(tmp_path: Path) -> None:
    service = Service(tmp_path / "service").build()
    (old, old_public), (new, new_public) = keygen(), keygen()
    key = tmp_path / "quay.key"
    text = f'{SPEC}encryption: {{recipients: [KEY], identity: {{secret: "file:{key}"}}}}\n'
    holdfast = Inside(service.folder)
    for identity, public, source in ((old, old_public, "config"), (new, new_public, "db")):
        (service.folder / "backup.yaml").write_text(text.replace("KEY", public))
        key.write_text(identity)
        holdfast("backup", "--source", source, *(["--source", "code"] * (source == "db")), status=0)
    assert "opens" in troubles(holdfast, 7)["identity"]
    key.write_text(old + new)
    assert troubles(holdfast, 0) == {}


@pytest.mark.parametrize("name", ["db.sqlite.zst", "SHA256SUMS"])
@pytest.mark.parametrize("content", [None, b""])
def test_what_a_recovery_would_refuse_is_not_ready(
    service: Service, holdfast: Inside, name: str, content: bytes | None
) -> None:
    (file,) = (service.folder / "backups").rglob(name)
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    (words,) = troubles(holdfast, 4).values()
    assert words.startswith(name)


def test_a_variable_that_a_recovery_would_miss(service: Service, holdfast: Inside) -> None:
    step = '  - {name: provision, run: "true", env: {REGION: "${REGION}"}}\n'
    spec = SPEC.replace("recovery:\n", f"recovery:\n{step}").replace("env_file: [.env]\n", "")
    (service.folder / "backup.yaml").write_text(spec)
    assert "REGION" in troubles(holdfast, 4)["spec"]
    holdfast("dr-restore", "--confirm", "quaybot", status=4)
    given = Inside(service.folder, {"REGION": "fra"})
    assert troubles(given, 0) == {}


def test_a_program_that_is_missing(
    service: Service, holdfast: Inside, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("tar", "bash"):
        (programs / name).symlink_to(str(shutil.which(name)))
    monkeypatch.setenv("PATH", str(programs))
    assert "git (apt-get install git)" in troubles(holdfast, 4)["programs for code"]


def cases(file: Path) -> dict[str, ET.Element]:
    suite = ET.fromstring(file.read_text())[0]
    found = {f"{one.get('classname')}: {one.get('name')}": one for one in suite}
    assert int(suite.get("tests", 0)) == len(suite)
    for kind, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.get(kind, -1)) == len(suite.findall(f".//{tag}"))
    return found


def test_a_failed_drill_is_a_failed_test(service: Service, holdfast: Inside) -> None:
    file = service.folder / "out" / "junit.xml"
    holdfast("drill", "--junit", file, status=0)
    assert not [one for one in cases(file).values() if one.find("failure") is not None]
    assert "proof: db" in cases(file)
    failing = SPEC.replace("count(*) > 0", "count(*) > 999")
    (service.folder / "backup.yaml").write_text(failing.replace("players exist", "<rich> & many"))
    holdfast("drill", "--junit", file, status=4)
    found = cases(file)["check of db: <rich> & many"].find("failure")
    assert found is not None
    assert "expected True" in str(found.get("message"))
    (service.folder / "backup.yaml").write_text(SPEC.replace("sqlite", "squirrel"))
    holdfast("drill", "--junit", file, status=3)
    assert set(cases(file)) == {"drill: outcome"}


def test_verify_and_status_say_it_too(service: Service, holdfast: Inside) -> None:
    for path in (service.folder / "backups").rglob("db.sqlite.zst"):
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    file = service.folder / "junit.xml"
    holdfast("verify", "--junit", file, status=4)
    (bad,) = [name for name, one in cases(file).items() if one.find("failure") is not None]
    assert bad.endswith("db at disk, stored")
    holdfast("status", "--ready", "--junit", file, status=0)
    assert "ready: target disk" in cases(file)


def test_what_no_xml_can_hold_is_shown(tmp_path: Path) -> None:
    points: list[dict[str, Any]] = [
        {"what": "a\x00b", "verdict": "FAIL", "found": "]]> \x1b[0m \ud800"}
    ]
    text = junit(Outcome("ready", {"points": points}, 4), "status")
    assert ET.fromstring(text)[0][0].get("name") == "a\\x00b"
