"""What one remote of rclone can do: a process for each request, its errors in words."""

from __future__ import annotations

import contextlib
import errno
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from runner import process
from runner.errors import StepFailed
from runner.process import CommandFailed
from runner.target import Entry
from runner.target.feed import joined
from runner.target.keys import Incoming
from runner.target.rclone_errors import MISSING, explained
from runner.target.rclone_place import Place

BLOCK = 1024 * 1024  # bytes read at once
CLAIM_TRIES = 3  # a folder that another host just removed is made again


class _Abandoned(Exception):
    """The chunks of a put failed; what they raised is kept with them."""


class _Missing(StepFailed):
    """The file or folder is not there."""


@dataclass(frozen=True)
class Remote:
    """Files below a place, by key. It is also the shelf of the locks' claims."""

    place: Place

    @property
    def name(self) -> str:
        """The target's name."""
        return self.place.name

    def write(self, key: str, incoming: Incoming) -> None:
        """Store the chunks under a name of the target's own, and give it that key once it is known
        to be whole: rclone takes the end of its input for the end of the file, also when who wrote
        it was killed.
        """
        self._require_rename()
        parent, slash, _ = key.rpartition("/")
        temporary = f"{parent}{slash}.{secrets.token_hex(8)}.partial"
        try:
            self._pour(temporary, incoming, key)
            found = self.look(temporary)
            kept = 0 if found is None else found.bytes
            if kept != incoming.bytes:
                raise StepFailed(
                    f"Target {self.name} kept {kept} of {incoming.bytes} bytes: {key} was not "
                    "written.",
                    remedy="Is there room left? `rclone about` may tell.",
                )
            self._move(temporary, key)
        except BaseException:
            self._forget(parent, temporary)
            raise

    def _pour(self, key: str, incoming: Incoming, told: str) -> None:
        try:
            with (
                self._explained(f"{told} was not written"),
                process.feeding(self._arguments("rcat", self.place.path(key))) as pipe,
            ):
                # Left by an exception, the block kills rclone before its input ends.
                try:
                    for chunk in joined(incoming):
                        pipe.write(chunk)
                except BaseException as error:
                    if incoming.error is not None:
                        raise _Abandoned from error
                    raise
        except _Abandoned:
            assert incoming.error is not None
            raise incoming.error from None

    def _move(self, source: str, key: str) -> None:
        # Servers that know no times would take another file of the same size for the same one.
        names = [self.place.path(source), self.place.path(key)]
        self._run(f"{key} was not written", "moveto", "--ignore-times", *names, patient=True)

    def _forget(self, parent: str, temporary: str) -> None:
        """Remove what a failed put left; a sweep finds what cannot be removed now."""
        name = temporary.rpartition("/")[2]
        pattern = ["--max-depth", "1", "--include", f"/{name}*"]
        with contextlib.suppress(StepFailed):
            self._run("", "delete", *pattern, self.place.path(parent))
            self._drop_folders(parent)

    def look(self, key: str) -> Entry | None:
        """The file of that key; None where there is none."""
        try:
            said = self._run(f"{key} was not read", "lsjson", "--stat", self.place.path(key))
        except _Missing:
            return None
        found = json.loads(said)
        return None if found is None or found["IsDir"] else _entry(key, found)

    def read(self, key: str, offset: int, length: int | None) -> Iterator[bytes]:
        """The file's bytes. Raises FileNotFoundError at the call."""
        found = self.look(key)
        if found is None:
            reason = f"target {self.name} has no such object"
            raise FileNotFoundError(errno.ENOENT, reason, key)
        end = found.bytes if length is None else min(found.bytes, offset + length)
        return iter(()) if offset >= end else self._stream(key, offset, end - offset)

    def _stream(self, key: str, offset: int, length: int) -> Iterator[bytes]:
        wanted = ["--offset", str(offset), "--count", str(length), self.place.path(key)]
        left = length
        with (
            self._explained(f"{key} was not read to its end"),
            process.reading(self._arguments("cat", *wanted)) as pipe,
        ):
            while block := pipe.read(BLOCK):
                left -= len(block)
                yield block
        if left:
            raise StepFailed(f"Target {self.name}: {key} ends {left} bytes too early.")

    def scan(self, folder: str, *options: str) -> Iterator[Entry]:
        """Every file below a folder, the target's own as well; a missing folder has none."""
        for found in self._listed(folder, "--files-only", "--fast-list", "--recursive", *options):
            yield _entry(f"{folder}/{found['Path']}" if folder else found["Path"], found)

    def folders(self, folder: str) -> list[str]:
        """The names of the folders right below a folder."""
        return [found["Name"] for found in self._listed(folder, "--dirs-only")]

    def _listed(self, folder: str, *options: str) -> Iterator[dict[str, Any]]:
        some = False
        arguments = self._arguments("lsjson", "--no-mimetype", *options, self.place.path(folder))
        with self._explained(f"{folder or 'it'} was not listed"):
            try:
                with process.reading(arguments) as pipe:
                    # One line each; the first and the last are brackets.
                    for line in pipe:
                        if line.startswith(b"{"):
                            some = True
                            yield json.loads(line.strip().removesuffix(b","))
            except CommandFailed as error:
                if some or error.outcome.status not in MISSING:
                    raise

    def remove(self, key: str) -> None:
        """Remove a file, and the folders that this leaves empty; a missing one is no error."""
        with contextlib.suppress(_Missing):
            self._run(f"{key} was not removed", "deletefile", self.place.path(key))
        self._drop_folders(key.rpartition("/")[0])

    def _drop_folders(self, folder: str) -> None:
        # Where folders are but names, they end with the last file in them.
        while folder and self.features["CanHaveEmptyDirectories"]:
            try:
                self._run("", "rmdir", self.place.path(folder))
            except StepFailed:
                return  # there is something in it
            folder = folder.rpartition("/")[0]

    @cached_property
    def features(self) -> dict[str, bool]:
        """What rclone says that this remote can do."""
        said = self._run("nothing can be kept there", "backend", "features", self.place.path(""))
        return dict(json.loads(said)["Features"])

    def _require_rename(self) -> None:
        if not (self.features["Move"] or self.features["Copy"]):
            raise StepFailed(
                f"Target {self.name}: {self.place.remote} can neither rename nor copy a file, so "
                "half a file could not be told from a whole one there.",
                remedy="Choose another remote.",
            )

    def free(self) -> int | None:
        """Bytes that can still be written; None where the remote does not tell it."""
        if not self.features["About"]:
            return None
        try:
            said = self._run("its free space was not read", "about", "--json", self.place.path(""))
        except _Missing:
            return None  # the folder is made by the first put
        free = json.loads(said).get("free")
        return None if free is None else int(free)

    def now(self) -> datetime:
        """The clock that dates what is written from here: that of the server, or of this machine
        where the protocol has a file keep the time that its writer says.
        """
        key = f".clock-{secrets.token_hex(8)}.partial"
        self._write_small(key, b"")
        found = self.look(key)
        self.remove(key)
        return datetime.now(UTC) if found is None else found.modified

    def write_claim(self, key: str, data: bytes) -> None:
        """Write a claim of a lock."""
        for attempt in range(1, CLAIM_TRIES + 1):
            try:
                return self._write_small(key, data)
            except StepFailed:
                if attempt == CLAIM_TRIES:
                    raise
        raise AssertionError

    def _write_small(self, key: str, data: bytes) -> None:
        self._run(f"{key} was not written", "rcat", self.place.path(key), stdin=data)

    def read_claim(self, key: str) -> bytes:
        """Read a claim of a lock."""
        return b"".join(self.read(key, 0, None))

    def claims(self, folder: str) -> list[Entry]:
        """All claims of a lock."""
        return list(self.scan(folder))

    def remove_claim(self, key: str) -> None:
        """Take a claim of a lock away, and the folders that this leaves empty."""
        self.remove(key)

    def _run(self, what: str, *command: str, stdin: bytes = b"", patient: bool = False) -> bytes:
        """What rclone prints. `patient`: no time is too long, since a file may be copied whole."""
        timeout = None if patient else self.place.timeout
        with self._explained(what):
            return process.run(self._arguments(*command), stdin=stdin, timeout=timeout).stdout

    def _arguments(self, command: str, *arguments: str) -> list[str]:
        return [self.place.program, command, *self.place.options, *arguments]

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        try:
            yield
        except CommandFailed as error:
            late = "took longer" in error.message
            where = f"Target {self.name} at {self.place.remote}"
            told = explained(error.outcome, where, what, late=late)
            if error.outcome.status in MISSING and not late:
                raise _Missing(told.message, remedy=told.remedy) from None
            raise told from None


def _entry(key: str, found: dict[str, Any]) -> Entry:
    modified = datetime.fromisoformat(found["ModTime"]).astimezone(UTC)
    return Entry(key, found["Size"], modified, f"{found['ModTime']}-{found['Size']}")


def escaped(name: str) -> str:
    """A name as a pattern that fits it alone: https://rclone.org/filtering/."""
    return "".join(f"\\{one}" if one in "\\*?[]{}" else one for one in name)
