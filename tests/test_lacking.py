"""A machine that is too small: told as that, never as a bug or as damage."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from runner.errors import StepFailed, is_local, lacking
from runner.store.streams import Stages
from tests.inside import Inside
from tests.service import Service


def refuse(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_only_what_says_so_is_a_lack() -> None:
    assert lacking(ValueError("odd")) is None
    assert lacking(RuntimeError("can't do it")) is None
    assert is_local(lacking(MemoryError()) or ValueError())


def test_a_stream_without_threads_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(StepFailed, match="no further thread") as caught, Stages() as stages:
        stages.run(lambda pipe: pipe.write(b"x"))
    assert is_local(caught.value)


def test_commands_without_threads_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = Inside(Service(tmp_path / "service").build().folder)
    program("backup", status=0)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    for command in (["backup"], ["verify", "--level", "restored"], ["status"], ["prune"]):
        answer = program(*command)
        assert answer.status in (4, 7), answer
        assert "no further thread" in answer.stdout + answer.stderr, answer
        assert "bug" not in answer.stdout + answer.stderr, answer
        assert "FAIL " not in answer.stdout, answer
