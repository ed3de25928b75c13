"""Rekey: snapshots for other recipients, and never a moment in which one is lost."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyrage
import pytest

from tests.inside import Inside
from tests.service import SPEC, Service
from tests.tools import require_program, run


def make_key(folder: Path, name: str) -> str:
    """A new identity in `keys/<name>`; return its recipient."""
    identity = pyrage.x25519.Identity.generate()
    (folder / "keys").mkdir(exist_ok=True)
    (folder / "keys" / name).write_text(f"{identity}\n")
    return str(identity.to_public())


def declare(service: Service, *recipients: str, more: str = "") -> None:
    spec = SPEC + f"encryption: {{recipients: [{', '.join(recipients)}]{more}}}\n"
    (service.folder / "backup.yaml").write_text(spec)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Service, str, str]:
    """A service with two snapshots for an old key, whose spec names a new one since."""
    service = Service(tmp_path_factory.mktemp("rekey") / "original").build()
    old, new = (make_key(service.folder, name) for name in ("old", "new"))
    declare(service, old)
    for _ in range(2):
        Inside(service.folder)("backup", status=0)
    declare(service, new)
    return service, old, new


@pytest.fixture
def service(original: tuple[Service, str, str], tmp_path: Path) -> Service:
    """A copy of that service, of this test alone."""
    shutil.copytree(original[0].folder, tmp_path / "service", symlinks=True)
    return Service(tmp_path / "service", (original[0].folder / "backup.yaml").read_text())


@pytest.fixture
def holdfast(service: Service) -> Inside:
    return Inside(service.folder)


REKEY = ("rekey", "--identity", "keys/old", "--confirm", "quaybot")


def ids(holdfast: Inside) -> list[str]:
    return [one["id"] for one in holdfast.json("list")["snapshots"]]


def test_only_the_new_identity_opens_what_was_rekeyed(service: Service, holdfast: Inside) -> None:
    before, content = ids(holdfast), service.observe()
    document = holdfast.json(*REKEY)
    after = ids(holdfast)
    assert len(after) == 2
    assert not set(after) & set(before)
    assert len(document["removed"]) == 4
    assert document["left"] == []
    service.destroy()
    recovery = ("dr-restore", "--confirm", "quaybot")
    holdfast(*recovery, "--identity", "keys/old", status=7)
    holdfast(*recovery, "--identity", "keys/new", status=0)
    assert service.observe() == content
