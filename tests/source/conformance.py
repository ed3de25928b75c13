"""What every source must do, whatever its type.

A test module describes its content in a `Sample` and subclasses `SourceConformance`:

    class TestFiles(SourceConformance):
        sample = FilesSample()

All content lives in a folder with a hostile name, every call is made on a newly opened source
(as another process would), and nothing but the sample knows what the content is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from runner.daemon import end_daemons
from runner.errors import StepFailed
from runner.source import Captured, Place
from tests.source.put_back import PutsBack
from tests.source.stack import (
    TOKEN,
    FolderArtifacts,
    FolderCapture,
    Sample,
    Stack,
    bash,
    decode,
    tree,
)

__all__ = ["FolderArtifacts", "FolderCapture", "Sample", "SourceConformance", "Stack"]

OTHER_TOKEN = "20261119t021500z000abc"


class SourceConformance(PutsBack):
    """The suite. A subclass names its sample."""

    sample: ClassVar[Sample]

    @pytest.fixture
    def stack(self, tmp_path: Path) -> Stack:
        return Stack(tmp_path / "production", self.sample)

    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return place_in(tmp_path)

    @pytest.fixture(autouse=True)
    def scratch_servers_end(self, tmp_path: Path) -> Iterator[None]:
        """As the program does when a drill's folder goes."""
        yield
        for folder in tmp_path.iterdir():
            end_daemons(folder)

    def test_capture_stores_artifacts_and_changes_nothing(self, stack: Stack) -> None:
        before = tree(stack.root)
        capture = stack.new_capture()
        captured: Captured = stack.source.capture(capture)
        assert tree(stack.root) == before
        assert "" in capture.sealed
        assert captured.taken_at.utcoffset() is not None
        assert captured.consistency in ("exact", "fuzzy")

    def test_fingerprint_is_json(self, stack: Stack) -> None:
        fingerprint = stack.source.capture(stack.new_capture()).fingerprint
        assert json.loads(json.dumps(fingerprint)) == fingerprint

    def test_unchanged_content_has_the_same_fingerprint(self, stack: Stack, place: Place) -> None:
        first, second = stack.capture(), stack.capture()
        found = second.fingerprint
        assert list(stack.source.differences(first.fingerprint, found, place)) == []

    def test_changed_mark_follows_the_content(self, stack: Stack) -> None:
        before = stack.source.changed_mark()
        assert stack.source.changed_mark() == before
        stack.change()
        assert before is None or stack.source.changed_mark() != before

    def test_total_loss_comes_back(self, stack: Stack, place: Place) -> None:
        original = stack.observe()
        artifacts = stack.capture()
        stack.destroy()
        assert not stack.source.exists()
        assert list(stack.restore(artifacts, place)) == []
        assert stack.source.exists()
        assert stack.observe() == original
        stack.source.discard(place)
        assert stack.observe() == original
        assert not _ours(stack.root)

    def test_what_is_replaced_is_kept(self, stack: Stack, place: Place) -> None:
        original = stack.observe()
        artifacts = stack.capture()
        stack.change()
        copies = stack.restore(artifacts, place)
        assert stack.observe() == original
        assert copies
        stack.source.discard(place)
        if stack.source.paths:
            assert all(os.path.lexists(copy) for copy in copies)
        assert stack.observe() == original

    def test_unswap_brings_back_every_byte(self, stack: Stack, place: Place) -> None:
        artifacts = stack.capture()
        stack.change()
        changed = stack.observe()
        stack.source.gate(place)
        before = tree(stack.root)
        stack.restore(artifacts, place)
        stack.source.unswap(place)
        assert stack.source.swapped(place) == "absent"
        stack.source.discard(place)
        assert tree(stack.root) == before
        assert stack.observe() == changed

    def test_unswap_after_total_loss_leaves_nothing(self, stack: Stack, place: Place) -> None:
        artifacts = stack.capture()
        stack.destroy()
        stack.restore(artifacts, place)
        stack.source.unswap(place)
        stack.source.discard(place)
        assert not stack.source.exists()
        assert not _ours(stack.root)

    def test_discard_leaves_nothing(self, stack: Stack, place: Place) -> None:
        artifacts = stack.capture()
        before = tree(stack.root)
        assert stack.source.staged(place) is None
        stack.source.stage(artifacts, place)
        assert tree(stack.root) != before or not stack.source.paths
        stack.source.discard(place)
        assert stack.source.staged(place) is None
        assert tree(stack.root) == before

    def test_what_was_not_done_can_be_taken_back(self, stack: Stack, place: Place) -> None:
        before = tree(stack.root)
        stack.source.unswap(place)
        stack.source.discard(place)
        assert stack.source.swapped(place) == "absent"
        assert tree(stack.root) == before

    def test_stage_and_swap_can_be_repeated(self, stack: Stack, place: Place) -> None:
        original = stack.observe()
        artifacts = stack.capture()
        stack.change()
        stack.source.stage(artifacts, place)
        copies = list(stack.restore(artifacts, place))
        assert list(stack.source.swap(place)) == copies
        stack.source.confirm(place)
        assert stack.observe() == original

    def test_confirm_sees_what_was_not_swapped(self, stack: Stack, place: Place) -> None:
        artifacts = stack.capture()
        stack.change()
        stack.source.stage(artifacts, place)
        with pytest.raises(StepFailed):
            stack.source.confirm(place)

    def test_changed_content_differs(self, stack: Stack, place: Place) -> None:
        first = stack.capture()
        stack.change()
        second = stack.capture()
        stack.source.stage(second, place)
        found = stack.source.fingerprint(place)
        differences = stack.source.differences(first.fingerprint, found, place)
        assert differences
        assert all(isinstance(one, str) and one for one in differences)

    def test_another_destination_leaves_the_original_alone(
        self, stack: Stack, tmp_path: Path
    ) -> None:
        original = stack.observe()
        artifacts = stack.capture()
        stack.change()
        before = tree(stack.root)
        destination = stack.source.scratch_destination(tmp_path / "drill's folder")
        place = place_in(tmp_path, destination)
        stack.restore(artifacts, place)
        assert self.sample.observe_at(destination) == original
        stack.source.discard(place)
        assert self.sample.observe_at(destination) == original
        assert tree(stack.root) == before

    def test_scratch_stays_in_its_folder(self, stack: Stack, tmp_path: Path) -> None:
        artifacts = stack.capture()
        stack.destroy()
        before = tree(stack.root)
        scratch = tmp_path / "scratch"
        destination = stack.source.scratch_destination(scratch)
        place = place_in(tmp_path, destination)
        assert Path(destination).is_relative_to(scratch)
        stack.restore(artifacts, place)
        assert tree(stack.root) == before
        stack.source.unswap(place)
        stack.source.discard(place)
        assert tree(stack.root) == before
        assert not _ours(scratch)

    def test_identity_tells_an_exchange(self, stack: Stack, place: Place) -> None:
        artifacts = stack.capture()
        before = stack.source.identity(place)
        assert stack.source.identity(place) == before
        stack.destroy()
        lost = stack.source.identity(place)
        assert lost != before
        stack.restore(artifacts, place)
        assert stack.source.identity(place) != lost

    @pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
    @pytest.mark.parametrize("damage", ["start", "middle", "end", "cut", "empty"])
    def test_damage_is_found_before_anything_changes(
        self, stack: Stack, place: Place, compressed: bool, damage: str
    ) -> None:
        artifacts = stack.capture(compressed=compressed)
        before = tree(stack.root)
        _damage(artifacts.key(), damage)
        with pytest.raises(StepFailed):
            stack.source.stage(artifacts, place)
        assert stack.source.staged(place) is None
        stack.source.discard(place)
        assert tree(stack.root) == before

    def test_a_store_that_fails_ends_the_capture(self, stack: Stack) -> None:
        before = tree(stack.root)
        with pytest.raises(StepFailed, match="full"):
            stack.source.capture(stack.new_capture(full_after=10))
        assert tree(stack.root) == before

    @pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
    def test_commands_restore_without_this_project(
        self, stack: Stack, place: Place, compressed: bool
    ) -> None:
        original = stack.observe()
        artifacts = stack.capture(compressed=compressed)
        stack.destroy()
        folder = self._run_restore_commands(stack, artifacts)
        snapshot = artifacts.capture.folder
        assert self.sample.observe_restored(snapshot / folder) == original
        bash(stack.source.place_commands(folder), snapshot)
        assert stack.observe() == original
        assert not list(stack.root.parent.rglob("pwned"))

    def test_commands_keep_what_they_replace(self, stack: Stack) -> None:
        original = stack.observe()
        artifacts = stack.capture()
        stack.change()
        folder = self._run_restore_commands(stack, artifacts)
        bash(stack.source.place_commands(folder), artifacts.capture.folder)
        assert stack.observe() == original
        if stack.source.paths:
            assert list(stack.root.rglob("*.before-recovery*"))
        assert not list(stack.root.parent.rglob("pwned"))

    def test_commands_are_described(self, stack: Stack) -> None:
        assert stack.source.capture_commands()
        assert stack.source.describe()
        assert all(path.is_absolute() for path in stack.source.paths)

    def test_capture_leaves_out_what_it_must(self, stack: Stack, tmp_path: Path) -> None:
        original = stack.observe()
        excluded = []
        for path in stack.source.paths:
            if path.is_dir():
                excluded.append(path / "state of holdfast")
                _litter(path)
        artifacts = stack.capture(excluded=excluded)
        destination = stack.source.scratch_destination(tmp_path / "scratch")
        stack.restore(artifacts, place_in(tmp_path, destination))
        assert self.sample.observe_at(destination) == original

    def _run_restore_commands(self, stack: Stack, artifacts: FolderArtifacts) -> str:
        folder = f"restored/{stack.spec.name}"
        stored = artifacts.capture.stored
        bash(stack.source.restore_commands(stored, decode, folder), artifacts.capture.folder)
        return folder


def place_in(folder: Path, destination: str = "") -> Place:
    """A place whose workspace and safety copies, if it needs any, lie in `folder`."""
    return Place(
        TOKEN, destination, workspace=folder / "workspace", safety=folder / "safety copies"
    )


def _litter(folder: Path) -> None:
    (folder / "state of holdfast" / "journals").mkdir(parents=True)
    (folder / "state of holdfast" / "journals" / "run").write_text("a journal")
    (folder / f".holdfast-{OTHER_TOKEN}-db").mkdir()
    (folder / f".holdfast-{OTHER_TOKEN}-db" / "staged").write_text("an unfinished restore")
    (folder / f"db.before-{OTHER_TOKEN}").write_text("a safety copy")


def _ours(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if f"-{TOKEN}" in path.name]


def _damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "cut":
        del data[len(data) * 2 // 3 :]
    elif how == "empty":
        data.clear()
    else:
        data[{"start": 0, "middle": len(data) // 2, "end": len(data) - 1}[how]] ^= 0x20
    path.write_bytes(data)
