"""Trees of files: a folder as users have them, snapshots of it, and the usual moves upon both."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

from runner.source import Captured, Place
from runner.source.files import FilesSource
from runner.spec.model import SourceSpec
from tests.source.stack import FolderArtifacts, FolderCapture


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
