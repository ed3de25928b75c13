"""The `files` source: a tree comes back as it was, and nothing else is touched."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path
from typing import Any

from runner.source import Place
from runner.spec.model import SourceSpec
from tests.source.conformance import SourceConformance
from tests.source.stack import TOKEN, Sample, bash, decode, tree
from tests.source.tree import Snapshots, names_in, observe_tree, restore, source_of
from tests.tools import require_program

require_program("tar")

MOMENT = 1_600_000_000_123_456_789


class FilesSample(Sample):
    """A folder, a file and a file with an absolute path, with everything tar can carry."""

    def build(self, folder: Path) -> SourceSpec:
        config = folder / "config"
        (config / "empty").mkdir(parents=True)
        (config / "app.yml").write_text("port: 8080\n")
        (config / "tool").write_text("#!/bin/sh\n")
        (config / "tool").chmod(0o4755)
        (config / "again").hardlink_to(config / "tool")
        (config / "link").symlink_to("/etc/outside of the tree")
        os.mkfifo(config / "queue")
        for name in (b"new\nline", b"-dash", b"--file=x", b"n\xff\xfe", b"[*]\\?", b"n" * 255):
            (config / os.fsdecode(name)).write_bytes(name)
        with (config / "sparse").open("wb") as file:
            file.seek(3_000_000)
            file.write(b"end")
        os.setxattr(config / "app.yml", "user.colour", b"blue\n=%")
        deep = config / "/".join(["a long name " * 8] * 4)
        deep.mkdir(parents=True)
        (deep / "file").write_text("deep")
        (folder / ".env").write_text("TOKEN=1\n")
        (folder / ".env").chmod(0o600)
        for path in sorted(folder.rglob("*"), reverse=True):
            os.utime(path, ns=(MOMENT, MOMENT + len(str(path))), follow_symlinks=False)
        paths = ["config", str(folder / ".env")]
        options = {"paths": paths, "exclude": [], "one_file_system": False}
        return SourceSpec("config", "files", options, folder)

    def change(self, folder: Path) -> None:
        (folder / "config" / "app.yml").write_text("port: 9090\n")
        (folder / "config" / "tool").unlink()

    def destroy(self, folder: Path) -> None:
        shutil.rmtree(folder / "config")
        (folder / ".env").unlink()

    def observe(self, folder: Path) -> Any:
        seen = {bytes.fromhex(name): row for name, row in observe_tree(folder).items()}
        if b"config" in seen:
            # Whatever is put beside the content for a while moves the time of the folder itself.
            seen[b"config"][3] = 0
        roots = (b"config", b".env")
        return {k.hex(): row for k, row in seen.items() if k.split(b"/")[0] in roots}

    def observe_at(self, destination: str) -> Any:
        return self.observe_restored(Path(destination))

    def observe_restored(self, folder: Path) -> Any:
        env = next(folder.rglob(".env"))
        seen = self.observe(folder)
        return seen | {b".env".hex(): observe_tree(env.parent)[b".env".hex()]}


class TestFiles(SourceConformance):
    sample = FilesSample()


class TestWholeFolder:
    """`paths: ["."]`, with all that must stay inside it."""

    def own(self, app: Path) -> tuple[Path, ...]:
        return (app / "var/state [*]?\n", app / "backups")

    def place(self, app: Path, **options: Any) -> Place:
        stays = (*self.own(app), app / "data/db.sqlite", app / "backup.yaml")
        return Place(TOKEN, protected=stays, **options)

    def test_no_backup_contains_itself(self, app: Path, snapshots: Snapshots) -> None:
        source = source_of(app, ".")
        names = names_in(source, snapshots.take(source, *self.own(app)))
        assert "data/db.sqlite" in names
        assert "var" in names
        assert not [name for name in names if "state" in name or "backups" in name]

    def test_what_must_stay_stays(self, app: Path, snapshots: Snapshots) -> None:
        source = source_of(app, ".")
        artifacts = snapshots.take(source, *self.own(app))
        inode = (app / "data/db.sqlite").stat().st_ino
        (app / "data/db.sqlite").write_text("newer")
        (app / "backups/snapshot").write_text("newer")
        (app / "config/app.yml").write_text("wrecked")
        (app / "data/notes.txt").unlink()
        (app / "added later").write_text("stays")
        before = tree(app)
        copies = restore(source, artifacts, self.place(app))
        assert (app / "config/app.yml").read_text() == "config/app.yml"
        assert (app / "data/notes.txt").read_text() == "data/notes.txt"
        assert (app / "added later").read_text() == "stays"
        assert (app / "backups/snapshot").read_text() == "newer"
        assert (app / "data/db.sqlite").read_text() == "newer"
        assert (app / "data/db.sqlite").stat().st_ino == inode
        assert (app / f"config.before-{TOKEN}/app.yml").read_text() == "wrecked"
        assert str(app / f"config.before-{TOKEN}") in copies
        source.unswap(self.place(app))
        source.discard(self.place(app))
        assert tree(app) == before

    def test_folders_that_stay_take_on_what_the_snapshot_says(
        self, app: Path, snapshots: Snapshots
    ) -> None:
        os.setxattr(app / "data", "user.note", b"kept")
        (app / "data").chmod(0o711)
        os.utime(app / "data", ns=(MOMENT, MOMENT))
        source = source_of(app, ".")
        artifacts = snapshots.take(source, *self.own(app))
        os.removexattr(app / "data", "user.note")
        (app / "data").chmod(0o700)
        (app / "data/notes.txt").write_text("wrecked")
        restore(source, artifacts, self.place(app))
        assert stat.S_IMODE((app / "data").stat().st_mode) == 0o711
        assert os.getxattr(app / "data", "user.note") == b"kept"
        assert (app / "data").stat().st_mtime_ns == MOMENT
        source.unswap(self.place(app))
        assert stat.S_IMODE((app / "data").stat().st_mode) == 0o700
        assert os.listxattr(app / "data") == []

    def test_the_mark_ignores_state(self, app: Path) -> None:
        source = source_of(app, ".")
        own = self.own(app)
        before = source.changed_mark(own)
        (app / "backups/another").write_text("snapshot")
        assert source.changed_mark(own) == before
        (app / "logs/today").write_text("another line")
        assert source.changed_mark(own) != before

    def test_the_mark_sees_who_else_may_enter_the_folder_itself(self, app: Path) -> None:
        require_program("setfacl")
        source = source_of(app, ".")
        before = source.changed_mark(self.own(app))
        subprocess.run(["setfacl", "-m", "u:65534:rwx", "-m", "m::rwx", str(app)], check=True)
        seen = source.changed_mark(self.own(app))
        subprocess.run(["setfacl", "-m", "u:65534:r-x", "-m", "m::rwx", str(app)], check=True)
        assert len({before, seen, source.changed_mark(self.own(app))}) == 3

    def test_the_mark_sees_every_file_that_tar_takes(self, app: Path) -> None:
        source = source_of(app, "logs", exclude=["[^a]*.log", r"b\log", "?"])
        for name in ("a.log", r"b\log", "é"):
            (app / "logs" / name).write_text("a line")
            before = source.changed_mark()
            (app / "logs" / name).write_text("another line")
            assert source.changed_mark() != before

    def test_the_mark_differs_when_the_spec_chooses_otherwise(self, app: Path) -> None:
        chosen: list[dict[str, Any]] = [{}, {"exclude": ["[d]ebug"]}, {"one_file_system": True}]
        marks = {source_of(app, "logs", **options).changed_mark() for options in chosen}
        assert len(marks) == len(chosen)

    def test_commands_bring_it_back(self, app: Path, snapshots: Snapshots) -> None:
        source = source_of(app, ".")
        artifacts = snapshots.take(source, *self.own(app))
        (app / "config/app.yml").write_text("wrecked")
        folder = artifacts.capture.folder
        bash(source.restore_commands(artifacts.capture.stored, decode, "restored/app"), folder)
        bash(source.place_commands("restored/app"), folder)
        assert (app / "config/app.yml").read_text() == "config/app.yml"
        assert (app / "config.before-recovery/app.yml").read_text() == "wrecked"
        assert (app / "backups/snapshot").exists()

    def test_commands_move_nothing_that_the_snapshot_does_not_hold(
        self, app: Path, snapshots: Snapshots
    ) -> None:
        target = app / "data/deeper/backups"
        target.mkdir(parents=True)
        (target / "snapshot").write_text("older")
        own = (*self.own(app), target)
        source = source_of(app, ".")
        artifacts = snapshots.take(source, *own)
        journal = app / "var/state [*]?\n/journal"
        stays = [journal, target / "snapshot"]
        inodes = [path.stat().st_ino for path in stays]
        (app / "data/notes.txt").write_text("wrecked")
        (app / "data/deeper").chmod(0o700)
        shutil.rmtree(app / "config")
        folder = target / "newer"
        shutil.move(artifacts.capture.folder, folder)
        bash(source.restore_commands(artifacts.capture.stored, decode, "restored/app"), folder)
        bash(source.place_commands("restored/app"), folder)
        assert [path.stat().st_ino for path in stays] == inodes
        assert (app / "data/notes.txt").read_text() == "data/notes.txt"
        assert (app / "data/notes.txt.before-recovery").read_text() == "wrecked"
        assert stat.S_IMODE((app / "data/deeper").stat().st_mode) == 0o755
        assert (app / "config/sub/deep.yml").exists()
        assert not (app / "var.before-recovery").exists()
        assert not (app / "data.before-recovery").exists()

    def test_one_file_comes_back_alone(self, app: Path, snapshots: Snapshots) -> None:
        source = source_of(app, ".")
        artifacts = snapshots.take(source, *self.own(app))
        for name in ("config/app.yml", "config/sub/deep.yml", "logs/today"):
            (app / name).write_text("newer")
        copies = restore(source, artifacts, self.place(app, include=("config/app.yml",)))
        assert copies == [str(app / f"config/app.yml.before-{TOKEN}")]
        assert (app / "config/app.yml").read_text() == "config/app.yml"
        assert (app / "config/sub/deep.yml").read_text() == "newer"
