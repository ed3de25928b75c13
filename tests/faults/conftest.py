"""Stacks that are made once and copied, and lives that end early."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.bad_day import ONE_TARGET, Steady, copied, encrypted_spec
from tests.service import SPEC, Service
from tests.tools import clean_environment

Stack = tuple[Service, Steady]
Fresh = Callable[..., Stack]
KillBefore = Callable[..., str]


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Service]:
    """Services with two snapshots, between which everything changed: at two targets, at one,
    and encrypted at one.
    """
    made = {}
    for name, spec in {"two": SPEC, "plain": ONE_TARGET, "encrypted": ONE_TARGET}.items():
        folder = tmp_path_factory.mktemp(name) / "service"
        folder.mkdir()
        service = Service(folder, encrypted_spec(folder, spec) if name == "encrypted" else spec)
        service.build()
        holdfast = Steady(folder)
        holdfast("backup", status=0)
        service.change()
        # Ids begin with a time in whole seconds, and tests sort by them.
        time.sleep(1 - time.time() % 1)
        holdfast("backup", status=0)
        made[name] = service
    return made


@pytest.fixture
def fresh(originals: dict[str, Service], tmp_path: Path) -> Fresh:
    """Makes a copy of one of these services, and the program in its folder."""

    def copy(name: str = "plain") -> Stack:
        return copied(originals[name], tmp_path / name)

    return copy


@pytest.fixture(scope="session")
def kill_before() -> Iterator[KillBefore]:
    """Runs a command in a folder, which dies just before its n-th change of the world, or of
    those that match `only`; returns that change, or nothing where the command lived to its end.
    """
    with subprocess.Popen(
        [sys.executable, "-P", str(Path(__file__).with_name("killed.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as lives:
        assert lives.stdin and lives.stdout  # noqa: PT018
        beginnings, endings = lives.stdin, lives.stdout

        def kill(folder: Path, nth: int, *words: str, only: str = "") -> str:
            life = [str(folder), clean_environment(folder), nth, only, words]
            print(json.dumps(life), file=beginnings, flush=True)
            return endings.readline().rstrip("\n")

        yield kill
