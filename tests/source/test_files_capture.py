"""What a capture of files takes in, leaves out, and refuses."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import StepFailed
from runner.source import Place
from runner.source.files_capture import Selection, capture_tar
from runner.source.files_entry import ListWriter
from runner.source.files_roots import Globs, roots_of
from tests.source.stack import TOKEN
from tests.source.tree import Snapshots, names_in, restore, source_of
from tests.tools import cannot_run, require_program

require_program("tar")


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

    def test_a_path_that_no_program_could_open_fails(self, app: Path, snapshots: Snapshots) -> None:
        folder = os.open(app / "config", os.O_RDONLY)
        for _ in range(20):
            os.mkdir("x" * 250, dir_fd=folder)
            deeper = os.open("x" * 250, os.O_RDONLY, dir_fd=folder)
            os.close(folder)
            folder = deeper
        os.close(folder)
        try:
            with pytest.raises(StepFailed, match="cannot be brought back"):
                snapshots.take(source_of(app, "config"))
            without = source_of(app, "config", exclude=["x" * 250])
            assert "config/app.yml" in names_in(without, snapshots.take(without))
        finally:
            subprocess.run(["rm", "-rf", app / "config" / ("x" * 250)], check=True)

    @pytest.mark.parametrize(
        ("glob", "gone"),
        [
            ("*.yml", {"config/app.yml", "config/sub/deep.yml"}),
            ("sub", {"config/sub", "config/sub/deep.yml"}),
            ("sub/", {"config/sub", "config/sub/deep.yml"}),
            ("./config/sub", {"config/sub", "config/sub/deep.yml"}),
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

    @pytest.mark.parametrize(
        ("glob", "gone"),
        [
            (".?*", {".env"}),
            (".[!.]*", {".env"}),
            ("*/cache", {"data/cache", "data/cache/c"}),
            ("?/cache", set()),
            ("data/cache", {"data/cache", "data/cache/c"}),
            ("cache", {"cache", "cache/c", "data/cache", "data/cache/c"}),
            ("./cache", {"cache", "cache/c", "data/cache", "data/cache/c"}),
        ],
    )
    def test_excludes_in_the_spec_s_own_folder(
        self, tmp_path: Path, snapshots: Snapshots, glob: str, gone: set[str]
    ) -> None:
        folder = tmp_path / "own"
        for name in (".env", "cache/c", "data/cache/c"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)
        everything = {".", ".env", "cache", "cache/c", "data", "data/cache", "data/cache/c"}
        source = source_of(folder, ".", exclude=[glob])
        assert set(names_in(source, snapshots.take(source))) == everything - gone

    @pytest.mark.parametrize("glob", ["*", "?*"])
    def test_an_exclude_that_leaves_nothing_of_the_spec_s_own_folder_fails(
        self, app: Path, snapshots: Snapshots, glob: str
    ) -> None:
        with pytest.raises(StepFailed, match=r"Nothing of \."):
            snapshots.take(source_of(app, ".", exclude=[glob]))

    def test_a_time_that_no_calendar_has_is_not_shown(
        self, app: Path, snapshots: Snapshots
    ) -> None:
        memory = Path("/dev/shm")  # ext4 knows no such time
        if not memory.is_dir():
            cannot_run("There is no file system in memory.")
        far = memory / f"holdfast-{os.getpid()}"
        far.mkdir()
        try:
            (far / "file").write_text("x")
            os.utime(far / "file", (0, 10**12))
            source = source_of(app, str(far))
            assert "file" in " ".join(names_in(source, snapshots.take(source)))
        finally:
            shutil.rmtree(far)

    def test_the_user_s_own_options_of_tar_leave_nothing_out(
        self, app: Path, snapshots: Snapshots, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TAR_OPTIONS", "--exclude=*.yml")
        source = source_of(app, "config")
        assert "config/app.yml" in names_in(source, snapshots.take(source))

    def test_a_root_that_is_a_link_is_stored_as_one(self, app: Path, snapshots: Snapshots) -> None:
        (app / "current").symlink_to("config")
        source = source_of(app, "current")
        artifacts = snapshots.take(source)
        assert names_in(source, artifacts) == ["current"]
        assert "current: a link" in snapshots.notes
        (app / "current").unlink()
        restore(source, artifacts, Place(TOKEN))
        assert (app / "current").readlink() == Path("config")

    def test_a_root_that_is_a_link_to_itself_comes_back(
        self, app: Path, snapshots: Snapshots
    ) -> None:
        (app / "loop").symlink_to("loop")
        source = source_of(app, "loop", "config")
        artifacts = snapshots.take(source)
        restore(source, artifacts, Place(TOKEN, protected=(app / "loop",)))
        assert (app / "loop").readlink() == Path("loop")

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
