"""A capture that fails leaves nothing of its source where the others are published."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.execute.actions.source import Capturing
from runner.registry import open_target
from runner.spec.model import TargetSpec
from runner.store.seal import Seal, Sink


def capturing(tmp_path: Path) -> Capturing:
    target = open_target(
        TargetSpec("disk", "local", {"path": str(tmp_path / "disk"), "min_free": 0}, tmp_path)
    )
    return Capturing(
        source="db",
        seal=Seal("zstd"),
        target=target,
        folder="shop/default/20261120T021500Z-nightly-7f3a9c",
        excluded=(),
        scratch=tmp_path,
        progress=lambda _more: None,
    )


def content(sink: Sink) -> None:
    sink.write(b"content")


def fail_after_one_part(capture: Capturing) -> None:
    with capture.whole_or_nothing():
        capture.store("sqlite", content)
        assert list(capture.target.entries(capture.folder))
        raise OSError("disk full")


def test_parts_of_a_failed_capture_are_removed(tmp_path: Path) -> None:
    capture = capturing(tmp_path)
    with pytest.raises(OSError, match="disk full"):
        fail_after_one_part(capture)
    assert list(capture.target.entries(capture.folder)) == []


def test_parts_of_a_capture_that_ended_well_stay(tmp_path: Path) -> None:
    capture = capturing(tmp_path)
    with capture.whole_or_nothing():
        capture.store("sqlite", content)
    assert [entry.key for entry in capture.target.entries(capture.folder)] == [
        f"{capture.folder}/db.sqlite.zst"
    ]
