"""SQLite put back: beside, proven, exchanged; killed anywhere, and taken back."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from runner.errors import PersonNeeded, StepFailed, UsageError
from runner.source import Place, Source
from runner.swap import is_ours
from tests.source.database import IDLE_APP, app, ask, crash, dump, fill
from tests.source.stack import TOKEN, FolderArtifacts, bash, decode, tree
from tests.source.test_sqlite import captured, declared
from tests.tools import require_program

NAME = "bot.db"
SAFETY = f"{NAME}.before-{TOKEN}"
SIDES = ("-wal", "-shm", "-journal")
MORTAL = ("rename", "replace", "link", "unlink", "rmdir")


def prepare(path: Path, tmp_path: Path) -> FolderArtifacts:
    """A database, a snapshot of it, and a change since."""
    path.parent.mkdir(exist_ok=True)
    fill(path, wal=True)
    _, artifacts = captured(path, tmp_path / "snapshot")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("DELETE FROM players WHERE id > 100")
        connection.commit()
    return artifacts


def staged(path: Path, artifacts: FolderArtifacts, place: Place) -> Source:
    source = declared(path)
    source.stage(artifacts, place)
    found = source.fingerprint(place)
    assert not source.differences(artifacts.fingerprint, found, place)
    return source


def seen(path: Path, tmp_path: Path) -> Any:
    """What an app would read: asked of a copy with all that lies beside, so nothing changes."""
    folder = tmp_path / "seen"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for suffix in ("", *SIDES):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(f"{path}{suffix}", folder)
    try:
        return dump(folder / path.name)
    except sqlite3.DatabaseError:
        return [Path(f"{path}{suffix}").read_bytes() for suffix in ("", "-wal")]


def killed(action: Callable[[], object], after: int) -> bool:
    """Do it in a process that is killed before its n-th change of a name; False if it ended."""
    child = os.fork()
    if child == 0:
        left = [after]

        def mortal(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1
                return real(*args, **options)

            return call

        for name in MORTAL:
            setattr(os, name, mortal(getattr(os, name)))
        try:
            action()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def as_it_was(path: Path) -> None:
    """Nothing happened to it since it was closed."""


def wrecked(path: Path) -> None:
    """Neither the database nor its WAL can be read any more."""
    path.write_bytes(b"garbage" * 1000)
    path.with_name(f"{NAME}-wal").write_bytes(b"rubbish" * 1000)


def crashed_with_journal(path: Path) -> None:
    """The app was killed within a transaction."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    crash(path)


def lost(path: Path) -> None:
    """There is none."""
    path.unlink()


@pytest.mark.parametrize("fate", [as_it_was, crash, crashed_with_journal, wrecked, lost])
def test_a_kill_anywhere_loses_nothing(tmp_path: Path, fate: Callable[[Path], None]) -> None:
    model, place = tmp_path / "model", Place(TOKEN)
    artifacts = prepare(model / NAME, tmp_path)
    fate(model / NAME)
    old = seen(model / NAME, tmp_path) if (model / NAME).exists() else None
    _, new = captured_as(artifacts, tmp_path)
    for after in range(100):
        outcomes = []
        for way in ("on", "back"):
            path = tmp_path / f"{way} {after}" / NAME
            shutil.copytree(model, path.parent)
            source = staged(path, artifacts, place)
            outcomes.append(killed(partial(source.swap, place), after))
            if fate not in (wrecked, lost):
                assert seen(path, tmp_path) in (old, new)
            if way == "on":
                copies = source.swap(place)
                source.confirm(place)
                source.discard(place)
                assert seen(path, tmp_path) == new
                assert bool(copies) == (old is not None)
                assert old is None or seen(path.with_name(SAFETY), tmp_path) == old
                assert all(is_ours(one.name) for one in path.parent.iterdir() if one != path)
            else:
                source.unswap(place)
                source.discard(place)
                assert (seen(path, tmp_path) if path.exists() else None) == old
                assert not [one for one in path.parent.iterdir() if is_ours(one.name)]
        if not any(outcomes):
            return
    pytest.fail("The swap never came to its end.")


def captured_as(artifacts: FolderArtifacts, tmp_path: Path) -> tuple[Path, Any]:
    """What the snapshot holds, read without a restore."""
    path = tmp_path / "expected" / NAME
    path.parent.mkdir()
    path.write_bytes(b"".join(artifacts.read()))
    return path, dump(path)


@pytest.mark.parametrize("fate", [as_it_was, crash, wrecked])
def test_a_kill_while_it_is_taken_back_loses_nothing(
    tmp_path: Path, fate: Callable[[Path], None]
) -> None:
    model, place = tmp_path / "model", Place(TOKEN)
    artifacts = prepare(model / NAME, tmp_path)
    fate(model / NAME)
    old = seen(model / NAME, tmp_path)
    for after in range(100):
        path = tmp_path / f"{after}" / NAME
        shutil.copytree(model, path.parent)
        source = staged(path, artifacts, place)
        source.swap(place)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("SELECT * FROM players").fetchone()
        ended = not killed(partial(source.unswap, place), after)
        source.unswap(place)
        source.discard(place)
        assert seen(path, tmp_path) == old
        if ended:
            return
    pytest.fail("It never came to its end.")


@pytest.mark.parametrize("wal", [True, False], ids=["wal", "rollback"])
def test_an_app_that_has_it_open_is_named(tmp_path: Path, wal: bool) -> None:
    path = tmp_path / NAME
    fill(path, wal=wal)
    source = declared(path)
    before = tree(tmp_path)
    source.gate(Place(TOKEN))
    assert tree(tmp_path) == before
    with app(IDLE_APP, path) as process:
        with pytest.raises(PersonNeeded, match=rf"in use by {process.pid} \(python") as caught:
            source.gate(Place(TOKEN))
        assert "--live" in caught.value.remedy
        source.gate(Place(TOKEN, running=True))
        source.gate(Place(TOKEN, str(tmp_path / "elsewhere.db")))


@pytest.mark.parametrize("wal", [True, False], ids=["wal", "rollback"])
def test_a_running_app_sees_what_was_restored(tmp_path: Path, wal: bool) -> None:
    path, place = tmp_path / "production" / NAME, Place(TOKEN, running=True)
    artifacts = prepare(path, tmp_path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA journal_mode={'WAL' if wal else 'DELETE'}")
    inode = path.stat().st_ino
    count = "SELECT count(*) FROM players"
    with app(IDLE_APP, path) as process:
        assert ask(process, count) == "[(100,)]"
        source = staged(path, artifacts, place)
        copies = source.swap(place)
        assert source.swapped(place) == "done"
        source.confirm(place)
        assert path.stat().st_ino == inode
        assert ask(process, count) == "[(500,)]"
        assert ask(process, "PRAGMA integrity_check") == "[('ok',)]"
        with contextlib.closing(sqlite3.connect(copies[0])) as connection:
            assert connection.execute(count).fetchone() == (100,)
        source.unswap(place)
        assert ask(process, count) == "[(100,)]"
        source.discard(place)
    assert not [one for one in path.parent.iterdir() if is_ours(one.name)]


def test_a_kill_while_a_running_app_is_written_to_can_be_resumed(tmp_path: Path) -> None:
    model, place = tmp_path / "model", Place(TOKEN, running=True)
    artifacts = prepare(model / NAME, tmp_path)
    _, new = captured_as(artifacts, tmp_path)
    old = seen(model / NAME, tmp_path)
    for after in range(100):
        path = tmp_path / f"{after}" / NAME
        shutil.copytree(model, path.parent)
        with app(IDLE_APP, path):
            source = staged(path, artifacts, place)
            ended = not killed(partial(source.swap, place), after)
            assert seen(path, tmp_path) in (old, new)
            copies = source.swap(place)
            source.confirm(place)
            source.discard(place)
            assert seen(path, tmp_path) == new
            assert seen(Path(str(copies[0])), tmp_path) == old
        if ended:
            return
    pytest.fail("It never came to its end.")


def test_owner_and_mode_stay_as_they_were(tmp_path: Path) -> None:
    path, place = tmp_path / "production" / NAME, Place(TOKEN)
    artifacts = prepare(path, tmp_path)
    path.chmod(0o660)
    if os.geteuid() == 0:
        os.chown(path, 1234, 1235)
    before = path.stat()
    staged(path, artifacts, place).swap(place)
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode, before.st_uid, before.st_gid,
    )  # fmt: skip


@pytest.mark.parametrize("inherited", [False, True], ids=["own", "inherited"])
def test_who_else_may_use_it_stays_as_it_was(tmp_path: Path, inherited: bool) -> None:
    require_program("setfacl")
    path, place = tmp_path / "production" / NAME, Place(TOKEN)
    artifacts = prepare(path, tmp_path)
    where = ["-d", path.parent] if inherited else [path]
    subprocess.run(["setfacl", "-m", "u:1235:rw", *map(str, where)], check=True)
    before = [os.getxattr(path, name) for name in os.listxattr(path)]
    assert bool(before) != inherited
    staged(path, artifacts, place).swap(place)
    assert [os.getxattr(path, name) for name in os.listxattr(path)] == before


def test_on_a_bare_host_it_has_the_mode_that_it_had(tmp_path: Path) -> None:
    path, place = tmp_path / "production" / NAME, Place(TOKEN)
    fill_with_mode(path, 0o640)
    _, artifacts = captured(path, tmp_path / "snapshot")
    shutil.rmtree(path.parent)
    staged(path, artifacts, place).swap(place)
    assert path.stat().st_mode & 0o7777 == 0o640


def fill_with_mode(path: Path, mode: int) -> None:
    path.parent.mkdir()
    fill(path, wal=False)
    path.chmod(mode)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    path, place = tmp_path / "production" / NAME, Place(TOKEN)
    artifacts = prepare(path, tmp_path)
    link = tmp_path / "link.db"
    link.symlink_to(path)
    source = staged(link, artifacts, place)
    source.swap(place)
    source.confirm(place)
    assert link.readlink() == path
    _, new = captured_as(artifacts, tmp_path)
    assert dump(link) == new


def test_a_staged_file_that_changed_is_found(tmp_path: Path) -> None:
    path, place = tmp_path / "production" / NAME, Place(TOKEN)
    artifacts = prepare(path, tmp_path)
    source = staged(path, artifacts, place)
    file = Path(str(source.staged(place)))
    file.write_bytes(file.read_bytes().replace(b"player 77", b"qlayer 77"))
    found = source.fingerprint(place)
    differences = source.differences(artifacts.fingerprint, found, place)
    assert differences == ["table players has other values in its 500 rows"]


def test_a_folder_is_no_destination(tmp_path: Path) -> None:
    path = tmp_path / "production" / NAME
    artifacts = prepare(path, tmp_path)
    with pytest.raises(UsageError, match="no file"):
        declared(path).stage(artifacts, Place(TOKEN, str(tmp_path)))


def test_somebody_elses_file_is_not_confirmed(tmp_path: Path) -> None:
    path, place = tmp_path / "production" / NAME, Place(TOKEN)
    artifacts = prepare(path, tmp_path)
    source = staged(path, artifacts, place)
    source.swap(place)
    shutil.copy(path, tmp_path / "other.db")
    (tmp_path / "other.db").replace(path)
    with pytest.raises(StepFailed, match="somebody replaced it"):
        source.confirm(place)


def test_commands_keep_a_wal_with_its_database(tmp_path: Path) -> None:
    path = tmp_path / "production" / NAME
    artifacts = prepare(path, tmp_path)
    crash(path)
    old = seen(path, tmp_path)
    source, snapshot = declared(path), artifacts.capture.folder
    bash(source.restore_commands(artifacts.capture.stored, decode, "restored/db"), snapshot)
    bash(source.place_commands("restored/db"), snapshot)
    _, new = captured_as(artifacts, tmp_path)
    assert dump(path) == new
    assert seen(path.with_name(f"{NAME}.before-recovery"), tmp_path) == old
