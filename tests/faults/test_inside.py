"""`path: .` with everything inside it: nothing else moves, and no backup contains itself."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pyrage
import pytest

from tests.faults.bad_day import Steady, snapshots
from tests.service import Service
from tests.tools import run

SPEC = """\
version: 1
project: quaybot
sources:
  db: {type: sqlite, path: data/quaybot.db}
  all: ALL
targets:
  disk: {type: local, path: backups}
  offsite: {type: local, path: deep/er/elsewhere}
"""
ALL = {"git": "{type: git, path: .}", "files": "{type: files, paths: [.]}"}
APART = ("backups", "deep/er/elsewhere", ".holdfast", "keys/quay.key")
MARKER = "a line of the identity"


def build(folder: Path, kind: str) -> tuple[Service, Steady]:
    """A repository, or a plain folder, that holds all that a backup of it must leave out."""
    folder.mkdir()
    identity = pyrage.x25519.Identity.generate()
    (folder / "keys").mkdir()
    (folder / "keys" / "quay.key").write_text(f"# {MARKER}\n{identity}\n")
    secret = '{secret: "file:keys/quay.key"}'
    lines = f"encryption: {{recipients: [{identity.to_public()}], identity: {secret}}}\n"
    service = Service(folder, SPEC.replace("ALL", ALL[kind]) + lines)
    service.build()
    shutil.rmtree(folder / "code")
    if kind == "git":
        run("git", "init", "-q", "-b", "main", folder=folder)
        (folder / ".gitignore").write_text("/data\n/backups\n/deep\n/.holdfast\n/keys\n/.env\n")
        run("git", "add", ".", folder=folder)
        run("git", "commit", "-q", "-m", "one", folder=folder)
    (folder / "deep" / "er").mkdir(parents=True)
    return service, Steady(folder)


def forget_players(service: Service) -> None:
    with contextlib.closing(sqlite3.connect(service.folder / "data" / "quaybot.db")) as database:
        database.execute("delete from players")
        database.commit()


def picture(folder: Path, *, but: tuple[str, ...] = ()) -> dict[str, tuple[str, int, str]]:
    """Every path below a folder with its mode, inode and content, without some and without
    the safety copy of a repository.
    """
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        name = str(path.relative_to(folder))
        if name.startswith((*(f"{one}/" for one in but), ".git.before-")) or name in but:
            continue
        status = path.lstat()
        # A folder's inode tells that it was not exchanged; a file's content what is in it.
        content = ""
        if path.is_file() and not path.is_symlink():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.is_symlink():
            content = str(path.readlink())
        found[name] = (oct(status.st_mode), status.st_ino, content)
    return found


def stored_names(snapshot: Path, folder: Path) -> list[str]:
    """The names in the archives of a snapshot, as ordinary tools list them."""
    names = []
    for file in snapshot.glob("all*.tar.zst.age"):
        opened = f"age -d -i {folder}/keys/quay.key {file} | zstd -dc | tar t"
        done = subprocess.run(["bash", "-c", opened], capture_output=True, text=True, check=True)
        names += done.stdout.splitlines()
    return [name.removeprefix("./").rstrip("/") for name in names]


@pytest.fixture(params=["git", "files"])
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Service, Steady]:
    return build(tmp_path / "service", request.param)


def test_no_backup_contains_itself(stack: tuple[Service, Steady]) -> None:
    service, holdfast = stack
    contents = []
    for _ in range(3):
        holdfast("backup", status=0)
        listed = holdfast.json("ls", "--source", "all")["contents"]
        # SQLite's own files beside a database come and go while another source reads it.
        passing = ("-wal", "-shm")
        contents.append(
            {one["name"]: one["bytes"] for one in listed if not one["name"].endswith(passing)}
        )
    assert contents[0] == contents[1] == contents[2]
    names = [*contents[2]]
    names += stored_names(snapshots(service)[-1], service.folder)
    for name in names:
        assert not name.removeprefix("./").startswith(APART), name
        assert ".holdfast-" not in name, name
        assert ".before-" not in name, name
    for target in (service.folder / "backups", service.folder / "deep/er/elsewhere"):
        for file in target.rglob("*.age"):
            assert MARKER.encode() not in file.read_bytes()


def test_a_restore_of_the_folder_moves_nothing_else(stack: tuple[Service, Steady]) -> None:
    service, holdfast = stack
    app = service.folder / "config" / "app.toml"
    holdfast("backup", status=0)
    app.write_text("changed\n")
    forget_players(service)
    apart = (*APART, "data/quaybot.db", "backup.yaml")
    keep = [picture(service.folder / name) for name in apart]
    tracked = (".holdfast", ".git", "config", ".gitignore")
    rest = picture(service.folder, but=tracked)
    changed = service.observe()["db"]
    holdfast("restore", "--source", "all", "--confirm", "all", status=0)
    assert app.read_text() == "name = 'quay'\n"
    assert service.observe()["db"] == changed
    for name, before in zip(apart, keep, strict=True):
        if name != ".holdfast":
            assert picture(service.folder / name) == before
    if (service.folder / ".git").exists():
        # Nothing but what git tracks was touched at all.
        assert picture(service.folder, but=tracked) == rest
    assert service.leftovers() == []


def test_a_restore_of_the_database_moves_nothing_else(stack: tuple[Service, Steady]) -> None:
    service, holdfast = stack
    before = service.observe()
    holdfast("backup", status=0)
    forget_players(service)
    apart = ("data", ".holdfast")
    keep = picture(service.folder, but=apart)
    holdfast("restore", "--source", "db", "--confirm", "db", status=0)
    assert picture(service.folder, but=apart) == keep
    assert service.observe() == before


def backed_up_names(service: Service, holdfast: Steady) -> list[str]:
    """What a backup holds now, but for what SQLite has beside a file while that is read."""
    holdfast("backup", status=0)
    names = stored_names(snapshots(service)[-1], service.folder)
    return sorted(name for name in names if not name.endswith(("-wal", "-shm")))


def test_a_recovery_brings_all_back_and_loses_nothing(stack: tuple[Service, Steady]) -> None:
    service, holdfast = stack
    before = service.observe()
    holdfast("backup", status=0)
    (service.folder / "config" / "app.toml").write_text("changed\n")
    (service.folder / "data" / "quaybot.db").unlink()
    apart = picture(service.folder / "backups") | picture(service.folder / "keys")
    holdfast("dr-restore", "--confirm", "quaybot", status=0)
    now = picture(service.folder / "backups") | picture(service.folder / "keys")
    assert {name: now[name] for name in apart} == apart
    found = service.observe()
    assert found["db"] == before["db"]
    assert (service.folder / "config" / "app.toml").read_text() == "name = 'quay'\n"
    assert service.leftovers() == []
    # Safety copies lie in the folder now, and are no part of it.
    first, second = (backed_up_names(service, holdfast) for _ in range(2))
    assert first == second
    assert not [name for name in second if ".before-" in name]
    holdfast("dr-restore", "--confirm", "quaybot", status=0)
    holdfast("drill", status=0)
