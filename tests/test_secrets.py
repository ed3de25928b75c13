"""A secret's value is found nowhere that Holdfast writes, prints or starts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pyrage
import pytest

from tests.service import SPEC, Service
from tests.tools import Answer, Program

REFERENCES = {
    "env": "env:QUAY_IDENTITY",
    "file": "file:keys/quay.key",
    "command": "command:cat keys/quay.key",
}


class Watch(threading.Thread):
    """Reads the argument lists and environments' names of all processes, over and over."""

    def __init__(self, marker: bytes) -> None:
        super().__init__(daemon=True)
        self.marker = marker
        self.seen: list[str] = []
        self.looks = 0
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            for entry in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    if self.marker in entry.read_bytes():
                        self.seen.append(entry.read_bytes().decode(errors="replace"))
                except OSError:
                    continue  # it has ended
            self.looks += 1
            time.sleep(0.01)


@pytest.fixture
def identity() -> pyrage.x25519.Identity:
    return pyrage.x25519.Identity.generate()


@pytest.fixture(
    params=[pytest.param(one, marks=[] if one == "env" else pytest.mark.slow) for one in REFERENCES]
)
def service(
    request: pytest.FixtureRequest, tmp_path: Path, identity: pyrage.x25519.Identity
) -> Service:
    """An encrypted service whose identity is given as a secret, and used by what it runs."""
    secret = f'{{secret: "{REFERENCES[request.param]}"}}'
    # A command of the user may print what it likes; what is kept of it is scrubbed.
    leak = "cat keys/quay.key; test -s .env && echo deployed >> service.log"
    spec = SPEC.replace("test -s .env && echo deployed >> service.log", leak)
    spec += f"encryption: {{recipients: [{identity.to_public()}], identity: {secret}}}\n"
    service = Service(tmp_path / "service", spec).build()
    (service.folder / "keys").mkdir()
    (service.folder / "keys" / "quay.key").write_text(f"{identity}\n")
    return service


def written(folder: Path) -> Iterator[Path]:
    """Every file that Holdfast wrote in a service's folder."""
    own = ("data", "config", "code", "keys")
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).parts[0] not in own:
            yield path


def test_nothing_holds_the_identity(service: Service, identity: pyrage.x25519.Identity) -> None:
    marker = str(identity)
    program = Program(service.folder, {"QUAY_IDENTITY": marker})
    watch = Watch(marker.encode())
    watch.start()
    answers: list[Answer] = [
        program("backup", status=0),
        program("restore", "--source", "db", "--dry-run", "--out", "plan.json", status=0),
        program("dr-restore", "--confirm", "quaybot", status=0),
        program("drill", "--json"),
        program("runbook", "--out", "runbook.md", status=0),
    ]
    run = program.json("history")["runs"][-1]["run"]
    answers += [program("show", "--run", run, "--json")]
    watch.over.set()
    watch.join()
    assert watch.looks > 5
    assert watch.seen == []
    for answer in answers:
        assert marker not in answer.stdout + answer.stderr, str(answer)
    files = list(written(service.folder))
    assert any(path.name == "journal.jsonl" for path in files)
    assert any(path.suffix == ".age" for path in files)
    assert [str(path) for path in files if marker.encode() in path.read_bytes()] == []


def test_a_wrong_secret_is_named_by_its_reference_alone(
    tmp_path: Path, identity: pyrage.x25519.Identity
) -> None:
    spec = SPEC + f"encryption: {{recipients: [{identity.to_public()}], identity: ID}}\n"
    service = Service(
        tmp_path / "service", spec.replace("identity: ID", 'identity: {secret: "env:QUAY_KEY"}')
    ).build()
    other = str(pyrage.x25519.Identity.generate())
    program = Program(service.folder, {"QUAY_KEY": other})
    program("backup", status=0)
    answer = program("restore", "--source", "db", "--confirm", "db")
    assert answer.status in (4, 7), str(answer)
    assert other not in answer.stdout + answer.stderr
    answer = service.program("restore", "--source", "db", "--confirm", "db", status=4)
    assert "env:QUAY_KEY" in answer.stderr
