"""Secrets: values that are looked up late, never printed, and scrubbed from what is composed.

A `Secret` is a reference, not a string: it can stand in a plan, a journal or a log. Its value
is read at first use by `reveal()`, which also teaches the scrubber to remove it everywhere.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import signal
import stat
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runner.errors import UsageError

KINDS = ("env", "file", "command", "credential")
HIDDEN = "[secret]"

# Shorter values would be found by chance in ordinary words, and scrubbing them would garble.
SHORTEST_SCRUBBED = 4

COMMAND_SECONDS = 60.0

_FROM_PIPES: dict[tuple[int, int], bytes] = {}  # by device and number
_ENCRYPTED = b"age-encryption.org/"  # how a file begins that age has encrypted


class Scrubber:
    """Removes the values of all revealed secrets from text."""

    def __init__(self) -> None:
        self._values: set[str] = set()

    def learn(self, value: str) -> None:
        """Remember a value, and each of its lines, so that `clean` removes them."""
        for part in (value, *value.splitlines()):
            if len(part.strip()) >= SHORTEST_SCRUBBED:
                self._values.add(part.strip())

    def clean(self, text: str) -> str:
        """`text` without any known secret value; longer values are removed first."""
        for value in sorted(self._values, key=len, reverse=True):
            if value in text:
                text = text.replace(value, HIDDEN)
        return text


SCRUBBER = Scrubber()


@dataclass(frozen=True)
class Secret:
    """Where a secret value comes from: `env:NAME`, `file:PATH`, `command:…`, `credential:NAME`."""

    reference: str  # kind, a colon, and a place; safe to print
    folder: Path = field(default_factory=Path, compare=False)  # relative file paths start here
    environment: Mapping[str, str] | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"secret {self.reference}"

    @property
    def file(self) -> Path | None:
        """The file that holds the value, if it is in one."""
        kind, _, place = self.reference.partition(":")
        return self._path(place) if kind == "file" else None

    def _path(self, place: str) -> Path:
        return self.folder / Path(place).expanduser()

    def reveal(self, *, public: Callable[[str], bool] = lambda _: False) -> str:
        """The value, without its trailing newline. One that is `public` may be shown.

        Raises UsageError, naming the reference and the remedy, when it cannot be had.
        """
        kind, _, place = self.reference.partition(":")
        readers: dict[str, Callable[[str], str]] = {
            "env": self._from_environment,
            "file": self._from_file,
            "command": self._from_command,
            "credential": self._from_credential,
        }
        value = readers[kind](place).rstrip("\r\n")
        if not value:
            raise UsageError(f"The secret {self.reference} is empty.", remedy="Give it a value.")
        if not public(value):
            SCRUBBER.learn(value)
        return value

    def _from_environment(self, name: str) -> str:
        values = os.environ if self.environment is None else self.environment
        if name not in values:
            raise UsageError(
                f"The secret env:{name} is not set.",
                remedy=f"Set {name} in the environment or in an env_file.",
            )
        return values[name]

    def _from_file(self, place: str) -> str:
        try:
            data = _content(self._path(place))
            if data.startswith(_ENCRYPTED):
                raise UsageError(
                    f"The secret file:{place} is itself encrypted.",
                    remedy=f"Decrypt it first: age -d -o FILE {shlex.quote(place)}",
                )
            return io.StringIO(data.decode(), newline=None).read()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise UsageError(
                f"The secret file:{place} cannot be read: {why}.",
                remedy="Put the file there, or change the reference.",
            ) from error

    def _from_command(self, command: str) -> str:
        try:
            status, output, words = self._run(command)
        except subprocess.TimeoutExpired as error:
            raise UsageError(
                f"The secret command took longer than {COMMAND_SECONDS:g} s.",
                remedy=f"Run it by hand: {command}",
            ) from error
        if status != 0:
            raise UsageError(
                f"The secret command failed with status {status}: {words.strip()[:200]}",
                remedy=f"Run it by hand: {command}",
            )
        return output

    def _run(self, command: str) -> tuple[int, str, str]:
        with subprocess.Popen(
            ["bash", "-eu", "-o", "pipefail", "-c", command],
            cwd=self.folder,
            env=None if self.environment is None else dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            try:
                output, words = process.communicate(timeout=COMMAND_SECONDS)
            except BaseException:
                # What it started holds the pipes open, and would be waited for.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
        return process.returncode, output.decode(errors="replace"), words.decode(errors="replace")

    def _from_credential(self, name: str) -> str:
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if folder is None:
            raise UsageError(
                f"The secret credential:{name} needs a systemd unit with LoadCredential.",
                remedy="Run as that unit, or use file: or env: instead.",
            )
        try:
            return (Path(folder) / name).read_text()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise UsageError(
                f"The secret credential:{name} cannot be read: {why}.",
                remedy=f"Add LoadCredential={name}:… to the unit.",
            ) from error


def _content(path: Path) -> bytes:
    """What a file holds. A pipe, which gives it once, is remembered: `<(age -d key.age)`."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISFIFO(status.st_mode):
            return file.read()
        pipe = (status.st_dev, status.st_ino)
        if pipe not in _FROM_PIPES:
            _FROM_PIPES[pipe] = file.read()
        return _FROM_PIPES[pipe]
