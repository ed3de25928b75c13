"""The `files` source: a tree comes back as it was, and nothing else is touched."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from pathlib import Path
from typing import Any

from runner.spec.model import SourceSpec
from tests.source.conformance import SourceConformance
from tests.source.stack import Sample
from tests.tools import require_program

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
            with open(os.fsencode(config) + b"/" + name, "wb") as file:
                file.write(name)
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
