"""The `files` source: a tree comes back as it was, and nothing else is touched."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.errors import StepFailed
from runner.source import Captured, Place
from runner.source.files import FilesSource
from runner.source.files_capture import Selection, capture_tar
from runner.source.files_entry import ListWriter
from runner.source.files_roots import Globs, roots_of
from runner.spec.model import SourceSpec
from tests.source.conformance import SourceConformance
from tests.source.stack import (
    TOKEN,
    FolderArtifacts,
    FolderCapture,
    Sample,
    bash,
    decode,
    tree,
)
from tests.tools import ROOT, require_program

require_program("tar")

MOMENT = 1_600_000_000_123_456_789


def observe_tree(root: Path) -> Any:
    """Everything that `root` holds, read with nothing of the project's."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        name = os.fsencode(path.relative_to(root)).hex()
        row: list[Any] = [stat.filemode(status.st_mode), status.st_uid, status.st_gid]
        row.append(status.st_mtime_ns)
        if path.is_symlink():
            row.append(str(path.readlink()))
        elif path.is_file():
            row += [hashlib.sha256(path.read_bytes()).hexdigest(), status.st_nlink]
        if not path.is_symlink():
            row.append({n: os.getxattr(path, n).hex() for n in os.listxattr(path)})
        found[name] = row
    return found


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


def source_of(folder: Path, *paths: str, **options: Any) -> FilesSource:
    """A source with these paths, as the spec in `folder` would declare it."""
    defaults = {"paths": list(paths), "exclude": [], "one_file_system": False}
    return FilesSource(SourceSpec("app", "files", defaults | options, folder))


class Snapshots:
    """Takes snapshots into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.captured: Captured | None = None

    def take(self, source: FilesSource, *excluded: Path) -> FolderArtifacts:
        capture = FolderCapture(
            Path(tempfile.mkdtemp(dir=self.folder)), source.name, excluded=excluded
        )
        self.captured = source.capture(capture)
        return FolderArtifacts(capture, self.captured.fingerprint)

    @property
    def notes(self) -> str:
        assert self.captured is not None
        return "\n".join(self.captured.notes)


@pytest.fixture
def snapshots(tmp_path: Path) -> Snapshots:
    (tmp_path / "snapshots").mkdir()
    return Snapshots(tmp_path / "snapshots")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A folder with a spec, state, a target and another source's database inside it."""
    folder = tmp_path / "app"
    for name in ("config/sub", "data", "var/state [*]?\n", "backups", "logs"):
        (folder / name).mkdir(parents=True)
    for name in ("backup.yaml", "config/app.yml", "config/sub/deep.yml", "data/db.sqlite"):
        (folder / name).write_text(name)
    for name in ("data/notes.txt", "var/state [*]?\n/journal", "backups/snapshot", "logs/today"):
        (folder / name).write_text(name)
    (folder / "config").chmod(0o750)
    return folder


def restore(source: FilesSource, artifacts: FolderArtifacts, place: Place) -> list[str]:
    """The whole of a restore; the safety copies, relative to the source's folder."""
    source.stage(artifacts, place)
    found = source.fingerprint(place)
    assert list(source.differences(artifacts.fingerprint, found, place)) == []
    copies = list(source.swap(place))
    source.confirm(place)
    return copies


def names_in(source: FilesSource, artifacts: FolderArtifacts) -> list[str]:
    return [content.name for content in source.contents(artifacts)]


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

    def test_one_file_comes_back_alone(self, app: Path, snapshots: Snapshots) -> None:
        source = source_of(app, ".")
        artifacts = snapshots.take(source, *self.own(app))
        for name in ("config/app.yml", "config/sub/deep.yml", "logs/today"):
            (app / name).write_text("newer")
        copies = restore(source, artifacts, self.place(app, include=("config/app.yml",)))
        assert copies == [str(app / f"config/app.yml.before-{TOKEN}")]
        assert (app / "config/app.yml").read_text() == "config/app.yml"
        assert (app / "config/sub/deep.yml").read_text() == "newer"


class TestCapture:
    def test_a_path_that_does_not_exist_fails(self, app: Path, snapshots: Snapshots) -> None:
        with pytest.raises(StepFailed, match="does not exist"):
            snapshots.take(source_of(app, "config", "missing"))

    def test_a_path_inside_a_target_fails(self, app: Path, snapshots: Snapshots) -> None:
        with pytest.raises(StepFailed, match="no backup contains"):
            snapshots.take(source_of(app, "backups/snapshot"), app / "backups")

    def test_an_exclude_that_leaves_nothing_fails(self, app: Path, snapshots: Snapshots) -> None:
        with pytest.raises(StepFailed, match="config"):
            snapshots.take(source_of(app, "config", "logs", exclude=["c*g"]))

    @pytest.mark.parametrize(
        ("glob", "gone"),
        [
            ("*.yml", {"config/app.yml", "config/sub/deep.yml"}),
            ("sub", {"config/sub", "config/sub/deep.yml"}),
            ("config/sub/*", {"config/sub/deep.yml"}),
            ("config*deep.yml", {"config/sub/deep.yml"}),
            ("app.ym[l]", {"config/app.yml"}),
        ],
    )
    def test_excludes(self, app: Path, snapshots: Snapshots, glob: str, gone: set[str]) -> None:
        everything = {"config", "config/app.yml", "config/sub", "config/sub/deep.yml"}
        source = source_of(app, "config", exclude=[glob])
        assert set(names_in(source, snapshots.take(source))) == everything - gone
        assert {name for name in everything if Globs([glob], anchored=False)(name)} == gone

    def test_a_root_that_is_a_link_is_stored_as_one(self, app: Path, snapshots: Snapshots) -> None:
        (app / "current").symlink_to("config")
        source = source_of(app, "current")
        artifacts = snapshots.take(source)
        assert names_in(source, artifacts) == ["current"]
        assert "current: a link" in snapshots.notes
        (app / "current").unlink()
        restore(source, artifacts, Place(TOKEN))
        assert (app / "current").readlink() == Path("config")

    def test_links_in_a_circle_and_sockets(self, app: Path, snapshots: Snapshots) -> None:
        (app / "config/loop").symlink_to("../config")
        os.mknod(app / "config/socket", stat.S_IFSOCK | 0o600)
        source = source_of(app, "config")
        names = names_in(source, snapshots.take(source))
        assert "config/loop" in names
        assert "config/socket" not in names
        assert "config/socket" in snapshots.notes

    def test_a_growing_file_is_noted(self, app: Path, snapshots: Snapshots) -> None:
        growing = app / "logs/today"
        growing.write_bytes(os.urandom(8_000_000))
        ended = threading.Event()

        def grow() -> None:
            with growing.open("ab") as file:
                while not ended.is_set():
                    file.write(b"line\n" * 100)
                    file.flush()

        thread = threading.Thread(target=grow)
        thread.start()
        try:
            source = source_of(app, "logs")
            artifacts = snapshots.take(source)
        finally:
            ended.set()
            thread.join()
        assert snapshots.captured is not None
        assert snapshots.captured.consistency == "fuzzy"
        assert "logs/today: file changed as we read it" in snapshots.notes
        restore(source, artifacts, Place(TOKEN))

    def test_an_unreadable_file_fails(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "config").mkdir()
            (folder / "config/secret.yml").touch(0)
            folder.chmod(0o755)
            told = as_nobody(lambda: what_a_capture_says(folder))
        assert "config/secret.yml: Cannot open: Permission denied" in told

    def test_a_large_sparse_file_stays_sparse(self, app: Path, snapshots: Snapshots) -> None:
        disk = app / "data/disk"
        with disk.open("wb") as file:
            file.write(os.urandom(500_000))
            file.seek(1 << 30)
            file.write(os.urandom(500_000))
        source = source_of(app, "data")
        artifacts = snapshots.take(source)
        assert artifacts.capture.sealed[""].content_bytes < 2_000_000
        restore(source, artifacts, Place(TOKEN))
        assert disk.stat().st_size == (1 << 30) + 500_000
        assert disk.stat().st_blocks * 512 < 4_000_000

    def test_absolute_and_outer_paths(self, app: Path, snapshots: Snapshots) -> None:
        (app.parent / "outer").write_text("outer")
        source = source_of(app, "../outer", str(app / "logs"), "config", "config/sub")
        stored = str(app).lstrip("/")
        artifacts = snapshots.take(source)
        assert artifacts.fingerprint["roots"] == sorted(
            ["config", str(app.parent / "outer").lstrip("/"), f"{stored}/logs"],
            key=lambda name: name.split("/"),
        )
        shutil.rmtree(app)
        (app.parent / "outer").unlink()
        restore(source, artifacts, Place(TOKEN))
        assert (app / "config/sub/deep.yml").exists()
        assert (app / "logs/today").exists()
        assert (app.parent / "outer").read_text() == "outer"

    def test_two_paths_of_one_name_are_refused(self, app: Path) -> None:
        with pytest.raises(StepFailed, match="would be stored"):
            source_of(app, "etc", "/etc")


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


def what_a_capture_says(folder: Path) -> str:
    """The message that a capture which writes nothing anywhere fails with."""
    selection = Selection(roots_of({"paths": ["config"]}, folder), (), False)
    with Path("/dev/null").open("wb") as sink, ListWriter(Path("/dev/null")) as lines:
        with pytest.raises(StepFailed) as failed:
            capture_tar(selection, sink, lines)
        return failed.value.message


def as_nobody(work: Callable[[], str]) -> str:
    """What `work` answers in a process of a user who may read nothing of root's."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        answer = "the child failed"
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            answer = work()
        finally:
            os.write(writing, answer.encode())
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        return pipe.read().decode()


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
