"""A source's real content, a store that is a folder, and the usual moves upon both."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import stat
import subprocess
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from runner.errors import StepFailed
from runner.registry import open_source
from runner.source import Fingerprint, Place, Source, Stored
from runner.spec.model import SourceSpec
from runner.store.seal import Sealed, Sink

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ODD = '-it\'s "$HOME" $(touch pwned) `id` #%?&;*\n|x'
TOKEN = "20261120t021500z7f3a9c"
BLOCK = 64 * 1024
PLAIN_PATH = "/usr/local/bin:/usr/bin:/bin"


class Sample(ABC):
    """One type's content: how it is made, changed, lost and read without our code."""

    folder_name: str = ODD  # of the folder that holds it; for types that cannot bear any name

    @abstractmethod
    def build(self, folder: Path) -> SourceSpec:
        """Make real content below the empty `folder`, and declare it."""

    @abstractmethod
    def change(self, folder: Path) -> None:
        """Change the content a little, so that nobody could call the two equal."""

    @abstractmethod
    def destroy(self, folder: Path) -> None:
        """Lose the content wholly."""

    @abstractmethod
    def observe(self, folder: Path) -> Any:
        """The content below `folder` as JSON, read independently of the source's code."""

    @abstractmethod
    def observe_at(self, destination: str) -> Any:
        """The same JSON for what a restore to `destination` made."""

    def observe_restored(self, folder: Path) -> Any:
        """The same JSON for what `restore_commands` made: `restored/<source>`."""
        return self.observe(folder)


class FolderCapture:
    """A capture whose store is a folder of files, plain or compressed."""

    def __init__(
        self,
        folder: Path,
        name: str,
        *,
        compressed: bool = True,
        excluded: Sequence[Path] = (),
        full_after: int | None = None,
    ) -> None:
        self.folder = folder
        self.name = name
        self.compressed = compressed
        self.full_after = full_after  # bytes of content after which the store fails
        self.stored: list[Stored] = []
        self.sealed: dict[str, Sealed] = {}
        self.excluded = tuple(excluded)
        self.scratch = folder / "scratch of the capture"
        self.scratch.mkdir(parents=True, mode=0o700)

    def store(self, form: str, produce: Callable[[Sink], object], *, part: str = "") -> Sealed:
        """Run `produce` in a thread, as the store does, into `<name>[.<part>].<form>[.zst]`."""
        middle = f".{part}" if part else ""
        key = f"{self.name}{middle}.{form}{'.zst' if self.compressed else ''}"
        path = self.folder / key
        sink = _FileSink(path, compressed=self.compressed, full_after=self.full_after)
        failures: list[BaseException] = []

        def work() -> None:
            try:
                produce(sink)
            except BaseException as error:  # noqa: BLE001 - raised again below
                failures.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        sink.close()
        if failures:
            path.unlink()
            raise failures[0]
        self.stored.append(Stored(part, form, key))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        self.sealed[part] = Sealed(
            key, path.stat().st_size, digest, sink.content_bytes, sink.digest.hexdigest()
        )
        return self.sealed[part]


class _FileSink:
    def __init__(self, path: Path, *, compressed: bool, full_after: int | None) -> None:
        self.digest = hashlib.sha256()
        self.content_bytes = 0
        self._full_after = full_after
        self._file: Any = zstd.open(path, "wb") if compressed else path.open("wb")

    def write(self, data: bytes | memoryview, /) -> int:
        self.content_bytes += len(data)
        if self._full_after is not None and self.content_bytes > self._full_after:
            raise StepFailed("The target is full.", remedy="Make room.")
        self.digest.update(data)
        self._file.write(data)
        return len(data)

    def close(self) -> None:
        # Without any write there would not even be an empty frame.
        self._file.write(b"")
        self._file.close()


class FolderArtifacts:
    """The artifacts that a FolderCapture stored, opened for a restore."""

    def __init__(self, capture: FolderCapture, fingerprint: Fingerprint) -> None:
        self.capture = capture
        self.fingerprint: Fingerprint = json.loads(json.dumps(fingerprint))

    @property
    def parts(self) -> Sequence[str]:
        return [one.part for one in self.capture.stored]

    def key(self, part: str = "") -> Path:
        """The stored file of a part."""
        return self.capture.folder / self.capture.sealed[part].key

    def read(self, part: str = "") -> Iterator[bytes]:
        """The content in chunks; StepFailed at its end if it is not what was stored."""
        digest = hashlib.sha256()
        path = self.key(part)
        try:
            with zstd.open(path, "rb") if self.capture.compressed else path.open("rb") as file:
                while chunk := file.read(BLOCK):
                    digest.update(chunk)
                    yield chunk
        except (EOFError, zstd.ZstdError) as error:
            raise StepFailed(f"{path.name} is damaged: {error}.") from error
        if digest.hexdigest() != self.capture.sealed[part].content_sha256:
            raise StepFailed(f"{path.name} is damaged: its hash differs.")


def decode(stored: Stored) -> str:
    """The shell pipeline that prints a stored file's content."""
    key = shlex.quote(stored.key)
    return f"zstd -dc {key}" if stored.key.endswith(".zst") else f"cat {key}"


def tree(root: Path) -> dict[str, tuple[Any, ...]]:
    """Every path below `root` with its kind, mode, bytes and, for files, its time."""
    found: dict[str, tuple[Any, ...]] = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        mode = stat.filemode(status.st_mode)
        name = os.fsencode(path.relative_to(root)).decode(errors="backslashreplace")
        if path.is_symlink():
            found[name] = (mode, str(path.readlink()))
        elif path.is_file():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            found[name] = (mode, status.st_size, status.st_mtime_ns, digest)
        else:
            found[name] = (mode,)
    return found


def bash(lines: Sequence[str], folder: Path) -> None:
    """Execute lines literally by `bash -e` in `folder`, where this project does not exist."""
    outcome = subprocess.run(
        ["bash", "-e", "-c", "\n".join(lines)],
        cwd=folder,
        env={"PATH": PLAIN_PATH, "HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 0, f"{outcome.stderr}\n{outcome.stdout}\n" + "\n".join(lines)


class Stack:
    """A sample's content in its folder, and the usual moves upon it."""

    def __init__(self, root: Path, sample: Sample) -> None:
        self.root = root  # all of production: what is staged or kept lies below it too
        self.sample = sample
        self.folder = root / sample.folder_name
        self.folder.mkdir(parents=True)
        self.spec = sample.build(self.folder)
        self._snapshots = 0

    @property
    def source(self) -> Source:
        """The source, newly opened."""
        return open_source(self.spec)

    def observe(self) -> Any:
        return self.sample.observe(self.folder)

    def change(self) -> None:
        self.sample.change(self.folder)

    def destroy(self) -> None:
        self.sample.destroy(self.folder)

    def new_capture(self, **options: Any) -> FolderCapture:
        self._snapshots += 1
        folder = self.root.parent / f"snap $shot {self._snapshots}"
        return FolderCapture(folder, self.spec.name, **options)

    def capture(self, **options: Any) -> FolderArtifacts:
        """Capture as things stand."""
        capture = self.new_capture(**options)
        return FolderArtifacts(capture, self.source.capture(capture).fingerprint)

    def prove(self, artifacts: FolderArtifacts, place: Place) -> Sequence[str]:
        """Stage, and say how what is staged differs from the snapshot."""
        self.source.stage(artifacts, place)
        assert self.source.staged(place) is not None
        found = self.source.fingerprint(place)
        return self.source.differences(artifacts.fingerprint, found, place)

    def restore(self, artifacts: FolderArtifacts, place: Place) -> Sequence[str]:
        """Stage, prove, swap, confirm; return the safety copies."""
        assert list(self.prove(artifacts, place)) == []
        self.source.gate(place)
        assert self.source.swapped(place) == "absent"
        copies = self.source.swap(place)
        assert self.source.swapped(place) == "done"
        self.source.confirm(place)
        return copies
