"""Exchanging a repository inside a folder that has other things in it too."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.errors import PersonNeeded, StepFailed
from runner.source import Place, Source
from tests.source import repository
from tests.source.repository import commit, git
from tests.source.stack import TOKEN, FolderArtifacts, bash, tree
from tests.source.test_git_capture import by_shell, captured, source_of

KEPT = f".git.before-{TOKEN}"
PLACE = Place(TOKEN)


def killed_swap(folder: Path, renames: int) -> bool:
    """Swap in a process that kills itself before the next rename; whether it was killed."""
    child = os.fork()
    if child == 0:
        left = itertools.count(renames, -1)

        def mortal(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                if next(left) == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments, **options)

            return call

        os.link = mortal(os.link)
        Path.rename = mortal(Path.rename)  # type: ignore[method-assign]
        try:
            source_of(folder, path=".").swap(PLACE)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status != 0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project whose folder holds a database, settings of others, backups: all untracked."""
    root = tmp_path / "project"
    root.mkdir()
    git(root, "init", "-q", "-b", "main")
    for name in ("app.py", "config/app.toml", "src/a.py", "src/b.py", "docs/old.md"):
        commit(root, name, f"{name} as captured\n")
    (root / "data").mkdir()
    (root / "data" / "live.db").write_text("rows")
    (root / ".holdfast").mkdir()
    (root / ".holdfast" / "journal").write_text("a run")
    (root / "config" / "secret.toml").write_text("untracked beside tracked")
    return root


def change(root: Path) -> None:
    """Go on after the capture: changed, removed and added files, committed and not."""
    git(root, "rm", "-q", "docs/old.md")
    commit(root, "app.py", "app.py changed later\n")
    commit(root, "added/later.py", "tracked later\n")
    commit(root, "added/deep/later.py", "tracked later\n")
    (root / "added" / "untracked").write_text("beside it")
    (root / "src" / "a.py").write_text("not committed\n")
    (root / "data" / "live.db").write_text("more rows")


def swapped(source: Source, artifacts: FolderArtifacts, place: Place = PLACE) -> list[str]:
    source.stage(artifacts, place)
    found = source.fingerprint(place)
    assert list(source.differences(artifacts.fingerprint, found, place)) == []
    copies = list(source.swap(place))
    source.confirm(place)
    return copies


def test_untracked_files_stay_exactly_where_they_are(tmp_path: Path, root: Path) -> None:
    source = source_of(root, path=".")
    artifacts, _ = captured(source, tmp_path / "snapshot")
    change(root)
    untracked = [root / "data", root / ".holdfast", root / "config", root / "added" / "untracked"]
    before = [path.lstat().st_ino for path in untracked]
    assert swapped(source, artifacts) == [str(root / KEPT)]
    source.discard(PLACE)
    assert [path.lstat().st_ino for path in untracked] == before
    assert repository.files(root) == {
        name: content
        for name, content in repository.files(root).items()
        if not name.startswith("added/") or name == "added/untracked"
    }
    assert (root / "data" / "live.db").read_text() == "more rows"
    assert (root / "app.py").read_text() == "app.py as captured\n"
    assert (root / "docs" / "old.md").exists()
    assert git(root, "status", "--porcelain", "-uno") == ""


def test_the_safety_copy_is_a_working_copy_of_its_own(tmp_path: Path, root: Path) -> None:
    source = source_of(root, path=".")
    artifacts, _ = captured(source, tmp_path / "snapshot")
    change(root)
    head = git(root, "rev-parse", "HEAD")
    swapped(source, artifacts)
    kept = root / KEPT
    assert git(kept, "rev-parse", "HEAD") == head
    assert git(kept, "status", "--porcelain") == " M src/a.py\n"
    assert (kept / "src" / "a.py").read_text() == "not committed\n"
    assert (kept / "added" / "deep" / "later.py").exists()


def test_a_safety_copy_is_not_captured_as_uncommitted_work(tmp_path: Path, root: Path) -> None:
    source = source_of(root, path=".", uncommitted=True)
    artifacts, _ = captured(source, tmp_path / "snapshot", excluded=[root / ".holdfast"])
    assert set(artifacts.fingerprint["uncommitted"]) == {"config/secret.toml", "data/live.db"}
    change(root)
    swapped(source, artifacts)
    again, _ = captured(source, tmp_path / "another", excluded=[root / ".holdfast"])
    assert not any(KEPT in name for name in again.fingerprint["uncommitted"])


def test_what_is_protected_never_moves(tmp_path: Path, root: Path) -> None:
    """Another source's file may be tracked too: it is that source's to restore."""
    source = source_of(root, path=".")
    artifacts, _ = captured(source, tmp_path / "snapshot")
    change(root)
    (root / "config" / "app.toml").write_text("as the other source has it\n")
    protected = (root / "config" / "app.toml", root / "data" / "live.db", root / "src", root)
    before = (root / "config" / "app.toml").lstat().st_ino
    swapped(source, artifacts, Place(TOKEN, protected=protected))
    assert (root / "config" / "app.toml").lstat().st_ino == before
    assert (root / "config" / "app.toml").read_text() == "as the other source has it\n"
    assert (root / "src" / "a.py").read_text() == "not committed\n"
    assert (root / "app.py").read_text() == "app.py as captured\n"


def test_an_untracked_file_in_the_way_is_kept(tmp_path: Path, root: Path) -> None:
    source = source_of(root, path=".")
    artifacts, _ = captured(source, tmp_path / "snapshot")
    git(root, "rm", "-q", "-r", "docs", "app.py")
    git(root, "commit", "-q", "-m", "removed")
    (root / "docs").write_text("a file where a folder was")
    (root / "app.py").mkdir()
    (root / "app.py" / "inside").write_text("untracked")
    swapped(source, artifacts)
    assert (root / KEPT / "docs").read_text() == "a file where a folder was"
    assert (root / KEPT / "app.py" / "inside").read_text() == "untracked"
    assert (root / "app.py").read_text() == "app.py as captured\n"


def test_something_protected_in_the_way_needs_a_person(tmp_path: Path, root: Path) -> None:
    source = source_of(root, path=".")
    artifacts, _ = captured(source, tmp_path / "snapshot")
    git(root, "rm", "-q", "app.py")
    (root / "app.py").mkdir()
    (root / "app.py" / "live.db").write_text("rows")
    place = Place(TOKEN, protected=(root / "app.py" / "live.db",))
    source.stage(artifacts, place)
    before = tree(root)
    with pytest.raises(PersonNeeded, match="must stay"):
        source.swap(place)
    assert tree(root) == before


def test_a_link_to_elsewhere_is_never_followed(tmp_path: Path, root: Path) -> None:
    source = source_of(root, path=".")
    artifacts, _ = captured(source, tmp_path / "snapshot")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("a.py", "b.py"):
        (elsewhere / name).write_text("somebody else's")
        (root / "src" / name).unlink()
    (root / "src").rmdir()
    (root / "src").symlink_to(elsewhere)
    swapped(source, artifacts)
    assert (elsewhere / "a.py").read_text() == "somebody else's"
    assert (root / "src" / "a.py").read_text() == "src/a.py as captured\n"
    assert (root / KEPT / "src").is_symlink()


def test_a_submodules_working_copy_stays(tmp_path: Path, root: Path) -> None:
    (tmp_path / "inner").mkdir()
    git(tmp_path / "inner", "init", "-q")
    commit(tmp_path / "inner", "inner.txt", "of the submodule\n")
    allow = ("-c", "protocol.file.allow=always")
    git(root, *allow, "submodule", "add", "-q", str(tmp_path / "inner"), "sub")
    git(root, "commit", "-q", "-m", "submodule")
    source = source_of(root, path=".")
    artifacts, _ = captured(source, tmp_path / "snapshot")
    change(root)
    swapped(source, artifacts)
    assert (root / "sub" / "inner.txt").read_text() == "of the submodule\n"
    assert (root / KEPT / ".git" / "modules" / "sub" / "HEAD").exists()
    assert git(root / "sub", "status", "--porcelain") == ""
    assert "sub" not in git(root, "status", "--porcelain")


def test_linked_worktrees_go_on(tmp_path: Path, root: Path) -> None:
    git(root, "worktree", "add", "-q", "-b", "feature", str(tmp_path / "feature"))
    git(root, "worktree", "add", "-q", "--detach", str(tmp_path / "detached"))
    artifacts, _ = captured(source_of(root, path="."), tmp_path / "snapshot")
    git(root, "worktree", "add", "-q", "-b", "later", str(tmp_path / "later"))
    git(tmp_path / "feature", "rm", "-q", "--cached", "app.py")
    (tmp_path / "feature" / "new.txt").write_text("not committed\n")
    git(tmp_path / "feature", "add", "new.txt")
    change(root)
    swapped(source_of(root, path="."), artifacts)
    assert git(tmp_path / "feature", "status", "--porcelain") == "?? new.txt\n"
    assert git(tmp_path / "detached", "status", "--porcelain") == ""
    assert "later" not in git(root, "worktree", "list")
    git(root, "fsck")


def test_objects_of_git_lfs_are_taken_along(tmp_path: Path, root: Path) -> None:
    kept = root / ".git/lfs/objects/4d/7a/4d7a"
    kept.parent.mkdir(parents=True)
    kept.write_text("an image")
    source = source_of(root, path=".")
    artifacts, _ = captured(source, tmp_path / "snapshot")
    swapped(source, artifacts)
    assert kept.read_text() == "an image"
    assert (root / KEPT / ".git/lfs/objects/4d/7a/4d7a").read_text() == "an image"


def test_only_the_git_folder_is_lost(tmp_path: Path, root: Path) -> None:
    source = source_of(root, path=".")
    artifacts, _ = captured(source, tmp_path / "snapshot")
    repository.remove(root / ".git")
    swapped(source, artifacts)
    assert git(root, "status", "--porcelain", "-uno") == ""
    assert (root / "data" / "live.db").read_text() == "rows"


def test_a_damaged_repository_is_replaced(tmp_path: Path, root: Path) -> None:
    source = source_of(root, path=".")
    artifacts, _ = captured(source, tmp_path / "snapshot")
    (root / ".git" / "index").write_bytes(b"garbage")
    (root / ".git" / "HEAD").write_bytes(b"garbage")
    swapped(source, artifacts)
    assert git(root, "status", "--porcelain", "-uno") == ""


def test_killed_between_any_two_renames_it_resumes_and_undoes(tmp_path: Path, root: Path) -> None:
    artifacts, _ = captured(source_of(root, path="."), tmp_path / "snapshot")
    original = repository.files(root)
    change(root)
    changed = tree(root)
    source_of(root, path=".").stage(artifacts, PLACE)
    for renames in itertools.count():
        copies = [tmp_path / f"{way}{renames}" for way in ("forward", "back")]
        for copy in copies:
            subprocess.run(["cp", "-a", root, copy], check=True)
            killed = killed_swap(copy, renames)
        forward, back = copies
        source = source_of(forward, path=".")
        source.swap(PLACE)
        assert source.swapped(PLACE) == "done"
        source.confirm(PLACE)
        source.discard(PLACE)
        found = repository.files(forward)
        assert {name: found[name] for name in original if name != "data/live.db"} == {
            name: one for name, one in original.items() if name != "data/live.db"
        }
        assert (forward / KEPT / "src" / "a.py").read_text() == "not committed\n"
        source = source_of(back, path=".")
        source.unswap(PLACE)
        source.discard(PLACE)
        assert tree(back) == changed, f"undone after {renames} renames"
        if not killed:
            break
    assert renames >= 6


@pytest.mark.parametrize(
    ("name", "words"),
    [("index.lock", "git command"), ("MERGE_HEAD", "a merge"), ("rebase-merge", "a rebase")],
)
def test_somebody_in_the_middle_of_something_needs_a_person(
    root: Path, name: str, words: str
) -> None:
    (root / ".git" / name).mkdir()
    with pytest.raises(PersonNeeded, match=words) as caught:
        source_of(root, path=".").gate(PLACE)
    assert caught.value.remedy


def test_a_bare_snapshot_does_not_replace_a_working_copy(tmp_path: Path, root: Path) -> None:
    git(tmp_path, "clone", "-q", "--bare", str(root), "bare")
    bare = source_of(tmp_path, path="bare")
    artifacts, _ = captured(bare, tmp_path / "snapshot")
    before = tree(root)
    with pytest.raises(PersonNeeded, match="something else"):
        bare.stage(artifacts, Place(TOKEN, str(root)))
    assert tree(root) == before
    working, _ = captured(source_of(root, path="."), tmp_path / "other")
    with pytest.raises(PersonNeeded, match="something else"):
        source_of(root, path=".").stage(working, Place(TOKEN, str(tmp_path / "bare")))


def test_a_missing_ref_is_told(tmp_path: Path, root: Path) -> None:
    git(root, "tag", "precious")
    source = source_of(root, path=".")
    artifacts, _ = captured(source, tmp_path / "snapshot")
    source.stage(artifacts, PLACE)
    staged = source.staged(PLACE)
    assert isinstance(staged, Path)
    git(staged, "tag", "-d", "precious")
    (staged / "app.py").write_text("changed in staging\n")
    found = source.fingerprint(PLACE)
    differences = list(source.differences(artifacts.fingerprint, found, PLACE))
    assert differences[0] == "the ref refs/tags/precious is missing"
    assert differences[1] == "the path app.py was not there"


def flawed_commit(root: Path) -> None:
    """One of those that old tools wrote, and that git fsck complains of."""
    raw = f"tree {git(root, 'rev-parse', 'HEAD^{tree}').strip()}\n"
    raw += "author Ada<a@b> 1 +0000\ncommitter Ada<a@b> 1 +0000\n\nold\n"
    write = ("hash-object", "-t", "commit", "--literally", "-w", "--stdin")
    git(root, "update-ref", "refs/heads/old", git(root, *write, stdin=raw.encode()).strip())
    git(root, "fsck", status=1)


@pytest.mark.parametrize("flawed", [False, True])
def test_damage_in_staging_is_told(tmp_path: Path, root: Path, flawed: bool) -> None:
    if flawed:
        flawed_commit(root)
    source = source_of(root, path=".")
    artifacts, _ = captured(source, tmp_path / "snapshot")
    source.stage(artifacts, PLACE)
    found = source.fingerprint(PLACE)
    assert list(source.differences(artifacts.fingerprint, found, PLACE)) == []
    staged = source.staged(PLACE)
    assert isinstance(staged, Path)
    (pack,) = (staged / ".git" / "objects" / "pack").glob("*.pack")
    pack.chmod(0o600)
    whole = pack.read_bytes()
    for place in range(0, len(whole), len(whole) // 8):
        data = bytearray(whole)
        data[place] ^= 0x55
        pack.write_bytes(data)
        with pytest.raises(StepFailed, match="damaged"):
            source.fingerprint(PLACE)


def test_a_stage_over_a_half_done_swap_is_refused(tmp_path: Path, root: Path) -> None:
    source = source_of(root, path=".")
    artifacts, _ = captured(source, tmp_path / "snapshot")
    change(root)
    source.stage(artifacts, PLACE)
    assert killed_swap(root, 1)
    with pytest.raises(PersonNeeded, match="partly exchanged"):
        source.stage(artifacts, PLACE)
    source.unswap(PLACE)
    swapped(source, artifacts)


def test_the_placing_commands_leave_untracked_files_alone(tmp_path: Path, root: Path) -> None:
    source = source_of(root, path=".")
    artifacts, _ = captured(source, tmp_path / "snapshot")
    change(root)
    by_shell(source, artifacts)
    lines = source.place_commands("restored/code")
    bash(lines, artifacts.capture.folder)
    assert (root / "data" / "live.db").read_text() == "more rows"
    assert (root / "added" / "untracked").exists()
    assert not (root / "added" / "later.py").exists()
    assert (root / "app.py").read_text() == "app.py as captured\n"
    kept = root / ".git.before-recovery"
    assert git(kept, "status", "--porcelain") == " M src/a.py\n"
    outcome = subprocess.run(
        ["bash", "-e", "-c", "\n".join(lines)], cwd=artifacts.capture.folder,
        capture_output=True, text=True, check=False, env=repository.HOME,
    )  # fmt: skip
    assert outcome.returncode == 1
    assert "move it away" in outcome.stderr


def test_what_was_staged_is_recorded_as_plain_json(tmp_path: Path, root: Path) -> None:
    source = source_of(root, path=".")
    artifacts, _ = captured(source, tmp_path / "snapshot")
    source.stage(artifacts, PLACE)
    staged = source.staged(PLACE)
    assert isinstance(staged, Path)
    recorded = json.loads((staged.parent / "recorded").read_text())
    assert recorded["refs"]["refs"] == artifacts.fingerprint["refs"]
    assert staged.parent.stat().st_mode & 0o777 == 0o700
