"""A target that waits for a variable stands in nobody's way who does not need it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.inside import Inside

SPEC = """\
version: 1
project: quaybot
sources: {config: {type: files, paths: [config]}}
targets:
  disk: {type: local, path: backups}
  far: {type: s3, bucket: "${FAR_BUCKET}", region: eu-central-1}
policies:
  here: {targets: [disk]}
  both: {targets: [disk, far]}
"""


@pytest.fixture
def holdfast(tmp_path: Path) -> Inside:
    """A service with one snapshot."""
    (tmp_path / "backup.yaml").write_text(SPEC)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "settings.ini").write_text("[bot]\n")
    inside = Inside(tmp_path)
    inside("backup", "--policy", "here", status=0)
    return inside


def test_a_recovery_says_that_it_may_hold_newer_snapshots(holdfast: Inside, tmp_path: Path) -> None:
    (tmp_path / "config" / "settings.ini").unlink()
    answer = holdfast("restore", "--source", "config", "--confirm", "config", status=0)
    assert "far cannot be read: it may hold newer snapshots" in answer.stdout
    assert (tmp_path / "config" / "settings.ini").read_text() == "[bot]\n"
    holdfast("dr-restore", "--from", "disk", "--confirm", "quaybot", status=0)


def test_a_drill_is_done_with_what_can_be_read(holdfast: Inside) -> None:
    answer = holdfast("drill", status=0)
    assert "far cannot be read: it may hold newer snapshots" in answer.stdout


def test_what_is_scheduled_does_not_wait_for_what_is_done_by_hand(
    holdfast: Inside, tmp_path: Path
) -> None:
    spec = SPEC.replace("here: {targets: [disk]}", "here: {targets: [disk], schedule: 1m}")
    (tmp_path / "backup.yaml").write_text(spec)
    holdfast("backup", status=0)
    holdfast("backup", "--due", status=0)


@pytest.mark.parametrize(
    "words",
    [
        ("ls", "--source", "config"),
        ("show", "--snapshot", "latest"),
        ("fetch", "--source", "config", "--to", "fetched"),
    ],
    ids=lambda words: words[0],
)
def test_what_is_held_elsewhere_is_shown(holdfast: Inside, words: tuple[str, ...]) -> None:
    holdfast(*words, status=0)


@pytest.mark.parametrize(
    "words",
    [
        ("backup",),
        ("backup", "--policy", "both"),
        ("list",),
        ("restore", "--source", "config", "--from", "far", "--to", "back"),
    ],
    ids=" ".join,
)
def test_who_needs_it_is_told_which_variable_is_missing(
    holdfast: Inside, words: tuple[str, ...]
) -> None:
    assert "${FAR_BUCKET} has no value" in holdfast(*words, status=3).stderr
