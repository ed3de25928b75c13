"""Stacks that are made once and copied."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.bad_day import ONE_TARGET, Steady, copied, encrypted_spec
from tests.service import SPEC, Service

Stack = tuple[Service, Steady]
Fresh = Callable[..., Stack]


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
