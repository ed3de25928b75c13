"""Kill the swap between any two of its renames: it goes forward, and it goes back."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runner import swap
from runner.errors import StepFailed

TOKEN = "20261120t021500z7f3a9c"

# Runs an exchange in a process that kills itself at the n-th rename or link.
KILLED = """
import os, signal, sys
from pathlib import Path
from runner import swap
left = [int(sys.argv[1])]
def mortal(real):
    def call(*args, **kwargs):
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return real(*args, **kwargs)
    return call
real_write = swap.write_bytes
os.link = mortal(os.link)
Path.rename = mortal(Path.rename)
base = Path(sys.argv[2])
pairs = [(base / ".holdfast-x" / name, base / name) for name in sys.argv[4:]]
{action}
"""
FORWARD = "swap.exchange(swap.plan_moves(pairs, sys.argv[3]), base / '.holdfast-x' / 'moves')"
BACK = "swap.undo(base / '.holdfast-x' / 'moves')"
NAMES = ["file", "folder", "new", "becomes-folder"]


def build(base: Path) -> list[tuple[Path, Path]]:
    staged = base / ".holdfast-x"
    staged.mkdir(parents=True)
    (base / "file").write_text("old")
    (staged / "file").write_text("restored")
    (base / "folder").mkdir()
    (base / "folder" / "inside").write_text("old")
    (staged / "folder").mkdir()
    (staged / "folder" / "inside").write_text("restored")
    (staged / "new").write_text("restored")
    (base / "becomes-folder").write_text("old")
    (staged / "becomes-folder").mkdir()
    (staged / "becomes-folder" / "inside").write_text("restored")
    return [(staged / name, base / name) for name in NAMES]


def contents(base: Path) -> dict[str, str]:
    return {
        str(path.relative_to(base)): path.read_text()
        for path in sorted(base.rglob("*"))
        if path.is_file() and ".holdfast-x" not in path.parts
    }


OLD = {"becomes-folder": "old", "file": "old", "folder/inside": "old"}
NEW = {
    f"becomes-folder.before-{TOKEN}": "old",
    "becomes-folder/inside": "restored",
    "file": "restored",
    f"file.before-{TOKEN}": "old",
    f"folder.before-{TOKEN}/inside": "old",
    "folder/inside": "restored",
    "new": "restored",
}


def run_killed(base: Path, action: str, renames: int) -> int:
    code = KILLED.format(action=action)
    arguments = [sys.executable, "-c", code, str(renames), str(base), TOKEN, *NAMES]
    return subprocess.run(arguments, check=False).returncode


def test_exchange_keeps_what_was_live_as_safety_copies(tmp_path: Path) -> None:
    record = tmp_path / ".holdfast-x" / "moves"
    copies = swap.exchange(swap.plan_moves(build(tmp_path), TOKEN), record)
    assert contents(tmp_path) == NEW
    assert [copy.name for copy in copies] == [
        f"{name}.before-{TOKEN}" for name in NAMES if name != "new"
    ]
    assert swap.progress(record) == "done"


def test_undo_brings_everything_back(tmp_path: Path) -> None:
    record = tmp_path / ".holdfast-x" / "moves"
    swap.exchange(swap.plan_moves(build(tmp_path), TOKEN), record)
    swap.undo(record)
    assert contents(tmp_path) == OLD
    assert (tmp_path / ".holdfast-x" / "new").read_text() == "restored"
    assert swap.progress(record) == "absent"


def test_killed_between_any_two_renames_it_resumes_and_undoes(tmp_path: Path) -> None:
    for renames in itertools.count():
        forward, back = tmp_path / f"forward{renames}", tmp_path / f"back{renames}"
        for base in (forward, back):
            build(base)
            status = run_killed(base, FORWARD, renames)
        record = Path(".holdfast-x") / "moves"
        assert swap.progress(forward / record) in ("absent", "partial", "done")
        swap.exchange([], forward / record)
        assert contents(forward) == NEW, f"resumed after {renames} renames"
        swap.undo(back / record)
        assert contents(back) == OLD, f"undone after {renames} renames"
        if status == 0:
            break
    assert renames >= 5


def test_an_undo_that_was_killed_is_finished_by_the_next(tmp_path: Path) -> None:
    for renames in itertools.count():
        base = tmp_path / str(renames)
        record = base / ".holdfast-x" / "moves"
        swap.exchange(swap.plan_moves(build(base), TOKEN), record)
        status = run_killed(base, BACK, renames)
        swap.undo(record)
        assert contents(base) == OLD, f"undo killed after {renames} renames"
        if status == 0:
            break
    assert renames >= 5


def test_something_new_in_the_way_is_never_overwritten(tmp_path: Path) -> None:
    pairs = build(tmp_path)
    moves = swap.plan_moves(pairs, TOKEN)
    (tmp_path / "new").write_text("came later")
    with pytest.raises(StepFailed, match="came into being"):
        swap.exchange(moves, tmp_path / ".holdfast-x" / "moves")
    assert (tmp_path / "new").read_text() == "came later"


def test_what_was_live_is_kept_where_something_new_took_its_place(tmp_path: Path) -> None:
    """A service that was not stopped made its file anew, between two renames."""
    live, staged, record = tmp_path / "live", tmp_path / "staged", tmp_path / "moves"
    live.write_text("old")
    staged.mkdir()
    (move,) = swap.plan_moves([(staged, live)], TOKEN)
    live.rename(move.safety)
    live.write_text("anew")
    with pytest.raises(StepFailed, match="came into being"):
        swap.exchange([move], record)
    with pytest.raises(StepFailed, match=f"What stood there is {move.safety}"):
        swap.undo(record)
    assert move.safety.read_text() == "old"
    live.unlink()
    swap.undo(record)
    assert live.read_text() == "old"


def test_a_file_that_nobody_may_change_is_told_with_what_lifts_that(tmp_path: Path) -> None:
    live = tmp_path / "file"
    live.write_text("old")
    (tmp_path / "staged").write_text("new")
    if subprocess.run(["chattr", "+i", live], capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can set attributes, and not on every file system")
    moves = swap.plan_moves([(tmp_path / "staged", live)], TOKEN)
    try:
        with pytest.raises(StepFailed) as raised:
            swap.exchange(moves, tmp_path / "moves")
    finally:
        subprocess.run(["chattr", "-i", live], check=True)
    assert "chattr -i" in raised.value.remedy
    swap.exchange(moves, tmp_path / "moves")
    assert live.read_text() == "new"


def test_names_of_staging_and_safety_copies_are_known() -> None:
    live = Path("/srv/app/data.db")
    assert swap.is_ours(swap.safety(live, TOKEN).name)
    assert swap.is_ours(swap.staging(live, TOKEN, "db").name)
    assert swap.is_ours("data.db.before-recovery")
    assert not swap.is_ours("data.db.before-christmas")
    assert not swap.is_ours(".holdfast-notes")


def test_odd_names_survive_the_record(tmp_path: Path) -> None:
    base = Path(os.fsdecode(os.fsencode(tmp_path) + b"/a\nb \xff"))
    base.mkdir()
    (base / "x").write_text("restored")
    record = tmp_path / "moves"
    swap.exchange(swap.plan_moves([(base / "x", base / "-y")], TOKEN), record)
    assert (base / "-y").read_text() == "restored"
    assert swap.progress(record) == "done"


def test_remove_tree_ends_when_all_is_gone_also_where_another_removes_it(tmp_path: Path) -> None:
    """Two commands take back what a killed one left: each may then forget that it was there."""
    tree = tmp_path / "tree"
    for number in range(400):
        inner = tree / str(number % 10) / str(number)
        inner.mkdir(parents=True)
        (inner / "file").write_text("content")

    def remove() -> bool:
        swap.remove_tree(tree)
        return tree.exists()

    with ThreadPoolExecutor() as pool:
        left = [pool.submit(remove) for _ in range(2)]
    assert [one.result() for one in left] == [False] * 2


def test_remove_tree_takes_what_may_not_be_written(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    (tree / "inner" / "file").write_text("x")
    (tree / "inner").chmod(0o500)
    swap.remove_tree(tree)
    swap.remove_tree(tree)
    assert not tree.exists()
