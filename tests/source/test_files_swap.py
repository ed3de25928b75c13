"""What a restore of files tells, replaces, and takes back, even when it is killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.commands.flags import as_shown
from runner.errors import PersonNeeded, StepFailed
from runner.source import Place
from tests.source.stack import TOKEN, bash, decode, tree
from tests.source.tree import Snapshots, restore, source_of
from tests.tools import ROOT, cannot_run, require_program

require_program("tar")


class TestRestore:
    def test_differences_are_told(self, app: Path, snapshots: Snapshots) -> None:
        source = source_of(app, "config")
        artifacts = snapshots.take(source)
        place = Place(TOKEN)
        source.stage(artifacts, place)
        staged = source.staged(place)
        assert staged is not None
        (staged / "config/app.yml").write_text("config/app.yaml"[:14])
        (staged / "config/sub/deep.yml").unlink()
        (staged / "config/sub/x\x1b[31m").write_text("new")
        (staged / "config").chmod(0o700)
        found = source.fingerprint(place)
        told = source.differences(artifacts.fingerprint, found, place)
        assert "config: mode 0700 instead of 0750" in told
        assert "config/app.yml: content differs" in told
        assert "config/sub/deep.yml: missing" in told
        assert "config/sub/x\\x1b[31m: not in the snapshot" in told

    def test_nothing_is_proven_that_the_disk_did_not_take(
        self, app: Path, snapshots: Snapshots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = source_of(app, "config")
        artifacts = snapshots.take(source)
        source.stage(artifacts, Place(TOKEN))
        failing = tmp_path / "programs" / "sync"
        failing.parent.mkdir()
        failing.write_text("#!/bin/sh\necho 'Input/output error' >&2; exit 1\n")
        failing.chmod(0o755)
        monkeypatch.setenv("PATH", str(failing.parent), prepend=":")
        with pytest.raises(StepFailed, match="Input/output error"):
            source.fingerprint(Place(TOKEN))

    def test_nothing_is_inherited_from_the_folder_it_is_unpacked_in(
        self, app: Path, snapshots: Snapshots
    ) -> None:
        require_program("setfacl")
        source = source_of(app, "config", "logs")
        artifacts = snapshots.take(source)
        subprocess.run(["setfacl", "-d", "-m", "u:65534:rwx", str(app)], check=True)
        restore(source, artifacts, Place(TOKEN))
        assert os.listxattr(app / "logs") == []

    def test_many_differences_are_counted(self, app: Path, snapshots: Snapshots) -> None:
        for number in range(30):
            (app / f"logs/{number}").touch()
        source = source_of(app, "logs")
        artifacts = snapshots.take(source)
        source.stage(artifacts, Place(TOKEN))
        staged = source.staged(Place(TOKEN))
        assert staged is not None
        for number in range(30):
            (staged / f"logs/{number}").chmod(0o611)
        found = source.fingerprint(Place(TOKEN))
        told = source.differences(artifacts.fingerprint, found, Place(TOKEN))
        assert len(told) == 21
        assert told[-1] == "and 10 more differences"

    def test_a_hard_link_comes_back_without_its_other_name(
        self, app: Path, snapshots: Snapshots
    ) -> None:
        (app / "config/z").hardlink_to(app / "config/app.yml")
        source = source_of(app, "config")
        artifacts = snapshots.take(source)
        (app / "config/z").unlink()
        (app / "config/app.yml").write_text("newer")
        restore(source, artifacts, Place(TOKEN, include=("config/z",)))
        assert (app / "config/z").read_text() == "config/app.yml"
        assert (app / "config/app.yml").read_text() == "newer"

    def test_globs_that_match_nothing_are_told(self, app: Path, snapshots: Snapshots) -> None:
        source = source_of(app, "config")
        artifacts = snapshots.take(source)
        with pytest.raises(StepFailed, match="include"):
            source.stage(artifacts, Place(TOKEN, include=("confg/*",)))
        with pytest.raises(StepFailed, match=r"include confg/app\.yml"):
            source.stage(artifacts, Place(TOKEN, include=("config/*", "confg/app.yml")))

    def test_a_name_is_matched_as_it_is_shown(self, app: Path, snapshots: Snapshots) -> None:
        odd = os.fsdecode(b"config/\xff")
        for name in ("config/[id].js", odd):
            (app / name).write_text("a page")
        source = source_of(app, "config")
        artifacts = snapshots.take(source)
        for name in ("config/[id].js", odd):
            (app / name).write_text("wrecked")
        restore(source, artifacts, Place(TOKEN, include=as_shown(["config/[id].js", odd])))
        for name in ("config/[id].js", odd):
            assert (app / name).read_text() == "a page"

    def test_a_path_that_left_the_spec_is_told(self, app: Path, snapshots: Snapshots) -> None:
        artifacts = snapshots.take(source_of(app, "config", "logs"))
        with pytest.raises(StepFailed, match="no longer names"):
            source_of(app, "config").stage(artifacts, Place(TOKEN))

    def test_a_folder_that_became_a_file_and_back(self, app: Path, snapshots: Snapshots) -> None:
        source = source_of(app, "config", "logs/today")
        artifacts = snapshots.take(source)
        shutil.rmtree(app / "config")
        (app / "config").write_text("a file now")
        (app / "logs/today").unlink()
        (app / "logs/today").mkdir()
        before = tree(app)
        restore(source, artifacts, Place(TOKEN))
        assert (app / "config/app.yml").exists()
        assert (app / "logs/today").is_file()
        source.unswap(Place(TOKEN))
        source.discard(Place(TOKEN))
        assert tree(app) == before

    @pytest.mark.parametrize("root", [".", "data"])
    @pytest.mark.parametrize("became", ["link", "file"])
    def test_what_must_stay_is_not_taken_for_restored(
        self, app: Path, snapshots: Snapshots, root: str, became: str
    ) -> None:
        """A folder moved to another disk since, with another source's database in it."""
        source = source_of(app, root)
        if became == "file":
            (app / "data/kept").write_text("a file in the snapshot")
        artifacts = snapshots.take(source)
        stays = app / "data/db.sqlite"
        if became == "link":
            (app / "data").rename(app.parent / "disk")
            (app / "data").symlink_to(app.parent / "disk")
        else:
            (app / "data/kept").unlink()
            (app / "data/kept").mkdir()
            stays = app / "data/kept/db.sqlite"
            stays.write_text("rows")
        (app / "data/notes.txt").write_text("wrecked")
        before = tree(app)
        with pytest.raises(PersonNeeded, match="must stay where it is"):
            source.stage(artifacts, Place(TOKEN, protected=(stays,)))
        source.discard(Place(TOKEN, protected=(stays,)))
        assert tree(app) == before


KILLED_AT = """
import os, signal, sys
from pathlib import Path
from runner.source import Place
from runner.source.files import FilesSource
from runner.spec.model import SourceSpec
folder, token, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
stays = (folder / "data/db.sqlite", folder / "backups")
source = FilesSource(SourceSpec("app", "files", {"paths": ["."]}, folder))
seen = 0
def count(event, arguments):
    global seen
    if event in ("os.rename", "os.link"):
        seen += 1
        if seen == last:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
source.swap(Place(token, protected=stays))
"""


@pytest.mark.slow
@pytest.mark.parametrize("onwards", ["resume", "undo"])
def test_killed_between_any_two_renames(
    app: Path, snapshots: Snapshots, tmp_path: Path, onwards: str
) -> None:
    stays = (app / "data/db.sqlite", app / "backups")
    place = Place(TOKEN, protected=stays)
    artifacts = snapshots.take(source_of(app, "."), app / "backups")
    (app / "config/app.yml").write_text("wrecked")
    (app / "logs/today").unlink()
    (app / "data/notes.txt").write_text("newer")
    wrecked = tree(app)
    for last in range(1, 1000):
        copy = tmp_path / "copy"
        shutil.copytree(app, copy, symlinks=True)
        source = source_of(copy, ".")
        place = Place(TOKEN, protected=(copy / "data/db.sqlite", copy / "backups"))
        source.stage(artifacts, place)
        done = subprocess.run(
            [sys.executable, "-c", KILLED_AT, copy, TOKEN, str(last)], cwd=ROOT, check=False
        )
        if onwards == "undo":
            source.unswap(place)
            source.discard(place)
            assert tree(copy) == wrecked
        else:
            source.swap(place)
            source.confirm(place)
            assert (copy / "config/app.yml").read_text() == "config/app.yml"
            assert (copy / "logs/today").read_text() == "logs/today"
            assert (copy / "data/notes.txt").read_text() == "data/notes.txt"
            assert (copy / f"config.before-{TOKEN}/app.yml").read_text() == "wrecked"
            assert (copy / f"data/notes.txt.before-{TOKEN}").read_text() == "newer"
        shutil.rmtree(copy)
        if done.returncode == 0:
            break
    assert last > 8


@contextlib.contextmanager
def mounted(folder: Path, origin: Path) -> Iterator[None]:
    """See the folder `origin` also at `folder`, where no rename reaches."""
    if os.geteuid() != 0:
        cannot_run("only root can mount a folder: run this test as root")
    for one in (folder, origin):
        one.mkdir(parents=True, exist_ok=True)
    command = ["mount", "--bind", str(origin), str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        cannot_run("this machine lets nobody mount a folder")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class TestMounts:
    def test_what_is_mounted_stays_mounted_in_its_place(
        self, app: Path, snapshots: Snapshots, tmp_path: Path
    ) -> None:
        source = source_of(app, "data", exclude=["data/up loads/*"])
        (app / "data/up loads").mkdir(parents=True)
        artifacts = snapshots.take(source)
        with mounted(app / "data/up loads", tmp_path / "disk"):
            (tmp_path / "disk/picture").write_text("on a disk of its own")
            restore(source, artifacts, Place(TOKEN))
            assert (app / "data/up loads/picture").is_file()

    def test_a_capture_tells_of_what_no_restore_in_place_reaches(
        self, app: Path, snapshots: Snapshots, tmp_path: Path
    ) -> None:
        told = "data/up loads: something is mounted there"
        with mounted(app / "data/up loads", tmp_path / "disk"):
            snapshots.take(source_of(app, "data"))
            assert told not in snapshots.notes  # it is empty
            (tmp_path / "disk/picture").write_text("on a disk of its own")
            for paths in (["data"], ["."]):
                snapshots.take(source_of(app, *paths))
                assert told in snapshots.notes
            snapshots.take(source_of(app, "data/up loads"))
            assert "mounted" not in snapshots.notes
            snapshots.take(source_of(app, "data", exclude=["data/up loads/*"]))
            assert "mounted" not in snapshots.notes

    def test_nothing_is_hidden_beneath_a_mount(
        self, app: Path, snapshots: Snapshots, tmp_path: Path
    ) -> None:
        source = source_of(app, "data")
        (app / "data/uploads").mkdir(parents=True)
        (app / "data/uploads/picture").write_text("as it was")
        artifacts = snapshots.take(source)
        with mounted(app / "data/uploads", tmp_path / "disk"):
            with pytest.raises(StepFailed, match="mounted at") as raised:
                source.stage(artifacts, Place(TOKEN))
            assert "--to" in raised.value.remedy
            source.discard(Place(TOKEN))

    def test_commands_carry_no_mount_away(
        self, app: Path, snapshots: Snapshots, tmp_path: Path
    ) -> None:
        source = source_of(app, "data")
        (app / "data/uploads").mkdir(parents=True)
        artifacts = snapshots.take(source)
        folder = artifacts.capture.folder
        bash(source.restore_commands(artifacts.capture.stored, decode, "restored/app"), folder)
        with mounted(app / "data/uploads", tmp_path / "disk"):
            (tmp_path / "disk/picture").write_text("on a disk of its own")
            with pytest.raises(AssertionError, match="a disk is mounted in"):
                bash(source.place_commands("restored/app"), folder)
            assert (app / "data/uploads/picture").is_file()

    def test_two_volumes_of_one_disk(self, app: Path, snapshots: Snapshots, tmp_path: Path) -> None:
        source = source_of(app, "one", "two")
        with (
            mounted(app / "one", tmp_path / "volumes/one"),
            mounted(app / "two", tmp_path / "volumes/two"),
        ):
            (app / "one/a").write_text("a")
            (app / "two/b").write_text("b")
            artifacts = snapshots.take(source)
            for volume in ("one/a", "two/b"):
                (tmp_path / "volumes" / volume).unlink()
            restore(source, artifacts, Place(TOKEN))
            assert (tmp_path / "volumes/one/a").read_text() == "a"
            assert (tmp_path / "volumes/two/b").read_text() == "b"
