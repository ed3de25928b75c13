"""The client programs for a server: found by its major, started with no password in sight."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from runner import process
from runner.errors import StepFailed
from runner.process import CommandFailed, Outcome
from runner.source.postgres_errors import said
from runner.source.postgres_server import APPLICATION, Server, environment

# Where distributions install several majors side by side; then whatever PATH has.
FOLDERS = (("/usr/lib/postgresql", "*/bin"), ("/usr", "pgsql-*/bin"), ("/opt/homebrew/opt", "*"))

VERSION_SECONDS = 60.0
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?")

# Behind a prefix command no descriptor and no file of ours is at hand, and a variable would have
# to be named there: the first line of what is read is the password.
FROM_STDIN = 'IFS= read -r PGPASSWORD && export PGPASSWORD && exec "$@"'


@dataclass(frozen=True)
class Programs:
    """The client programs of one version."""

    folder: str  # empty: found by PATH, behind the prefix command if there is one
    version: str  # 15.18
    major: int

    def path(self, name: str) -> str:
        """A program as it is started."""
        return f"{self.folder.rstrip('/')}/{name}" if self.folder else name


@dataclass(frozen=True)
class Client:
    """A client program that can be started now."""

    arguments: list[str]
    environment: dict[str, str]
    folder: Path | None
    first: bytes  # what its standard input must begin with: the password's line, or nothing


def programs_for(server: Server, major: int, needed: str = "pg_dump") -> Programs:
    """The programs of the smallest major that can work with a server of `major`.

    Raises StepFailed, saying what to install, when there are none.
    """
    found: list[Programs] = []
    for one in available(server, needed):
        if one.major == major:
            return one
        found.append(one)
    newer = [one for one in found if one.major > major]
    if newer:
        return min(newer, key=lambda one: one.major)
    older = sorted({one.major for one in found})
    have = f"there is only that of {', '.join(map(str, older))}" if older else "there is none"
    where = f"`{' '.join(server.exec)}` finds" if server.exec else "this machine has"
    raise StepFailed(
        f"A server of PostgreSQL {major} needs a {needed} that is at least as new, and {have} "
        f"that {where}.",
        remedy="Run the client programs of the database's own container."
        if server.exec
        else f"apt-get install postgresql-client-{major} (from apt.postgresql.org where the system "
        "has none), or name a folder with `bin`.",
        local=True,
    )


def available(server: Server, needed: str) -> Iterator[Programs]:
    """Every version that has the program `needed`, for this server; by folder, one after another:
    each is started to say its version.
    """
    if server.exec:
        version = _version_behind(server, needed)
        if version is not None:
            yield Programs(server.bin, *version)
        return
    if server.bin:
        folders = [str(server.folder / Path(server.bin).expanduser())]
    else:
        folders = _folders(needed, os.environ.get("PATH", ""))
    for folder in folders:
        version = _version(f"{folder}/{needed}")
        if version is not None:
            yield Programs(folder, *version)


@contextlib.contextmanager
def client(
    server: Server,
    programs: Programs,
    name: str,
    *arguments: str,
    connect: bool = True,
    application: str = APPLICATION,
    through: Sequence[str] = (),
) -> Iterator[Client]:
    """A program with all that it needs to reach the server; ready while the block runs.

    With `connect` it is told the database by `--dbname`. `through` is what starts it there.
    """
    line = [*through, programs.path(name), *arguments]
    if connect:
        line.append(f"--dbname={server.conninfo(application)}")
    with environment(server) as variables:
        first = b""
        if server.exec:
            password = server.secret() if connect else ""
            if password:
                line = ["sh", "-c", FROM_STDIN, "sh", *line]
                first = f"{password}\n".encode()
            line = _behind(server, line)
        yield Client(line, variables, server.folder if server.exec else None, first)


@contextlib.contextmanager
def reading_client(
    server: Server,
    programs: Programs,
    name: str,
    *arguments: str,
    application: str = APPLICATION,
) -> Iterator[IO[bytes]]:
    """What a program prints, as a stream; its status is checked when the block ends."""
    with (
        client(server, programs, name, *arguments, application=application) as one,
        _filled(one.first) as stdin,
        explained(server, name),
        process.reading(
            one.arguments, stdin=stdin, environment=one.environment, folder=one.folder
        ) as output,
    ):
        yield output


@contextlib.contextmanager
def feeding_client(
    server: Server, programs: Programs, name: str, *arguments: str, through: Sequence[str] = ()
) -> Iterator[IO[bytes]]:
    """The standard input of a program, as a stream; its status is checked when the block ends."""
    with (
        client(server, programs, name, *arguments, through=through) as one,
        explained(server, name),
        process.feeding(one.arguments, environment=one.environment, folder=one.folder) as feed,
    ):
        feed.write(one.first)
        yield feed


def run_client(
    server: Server,
    programs: Programs,
    name: str,
    *arguments: str,
    application: str = APPLICATION,
    timeout: float | None = None,
) -> Outcome:
    """Run a program to its end; what it prints must fit in memory."""
    with (
        client(server, programs, name, *arguments, application=application) as one,
        explained(server, name),
    ):
        return process.run(
            one.arguments,
            stdin=one.first,
            environment=one.environment,
            folder=one.folder,
            timeout=timeout,
        )


@contextlib.contextmanager
def explained(server: Server, name: str) -> Iterator[None]:
    """Say of which server a program's own words are, and what to do about them."""
    try:
        yield
    except CommandFailed as error:
        words = error.outcome.stderr
        if not words:
            raise
        prefix = f"{name}: error: "
        lines = [line.removeprefix(prefix) for line in words.splitlines()]
        shown = "\n".join(line for line in lines if not line.startswith(f"{name}: warning"))
        raise said(f"{name} of {server.describe()}", shown) from error


@contextlib.contextmanager
def _filled(first: bytes) -> Iterator[int]:
    """A descriptor to read a few bytes from, and then nothing."""
    reading, writing = os.pipe()
    try:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(first)
        yield reading
    finally:
        os.close(reading)


def _folders(needed: str, path: str) -> list[str]:
    found = [
        str(folder)
        for root, pattern in FOLDERS
        for folder in sorted(Path(root).glob(pattern))
        if (folder / needed).is_file()
    ]
    # A distribution's wrapper chooses a version by itself: only where nothing else is there.
    anywhere = shutil.which(needed, path=path)
    if anywhere is not None:
        found.append(str(Path(anywhere).parent))
    return found


@functools.cache
def _version(program: str) -> tuple[str, int] | None:
    try:
        outcome = process.run([program, "--version"], timeout=VERSION_SECONDS)
    except StepFailed:
        return None
    return _parsed(outcome.stdout.decode(errors="replace"))


def _behind(server: Server, line: Sequence[str]) -> list[str]:
    """A command line behind the prefix command. Of what follows, ssh makes one line for a shell."""
    if through_ssh(server):
        line = [shlex.quote(word) for word in line]
    return [*server.exec, *line]


def through_ssh(server: Server) -> bool:
    """Whether a shell over there reads the words again."""
    return any(Path(word).name == "ssh" for word in server.exec)


def _version_behind(server: Server, needed: str) -> tuple[str, int] | None:
    name = f"{server.bin.rstrip('/')}/{needed}" if server.bin else needed
    line = _behind(server, [name, "--version"])
    try:
        outcome = process.run(line, folder=server.folder, timeout=VERSION_SECONDS)
    except CommandFailed as error:
        if error.outcome.status not in (126, 127):
            words = error.outcome.stderr or error.message
            raise said(f"`{' '.join(line)}`", words) from error
        return None
    return _parsed(outcome.stdout.decode(errors="replace"))


def _parsed(text: str) -> tuple[str, int] | None:
    found = _VERSION.search(text)
    if found is None:
        return None
    major, minor = found.groups()
    return (f"{major}.{minor}" if minor else major), int(major)


def several(programs: Sequence[Programs]) -> str:
    """For a person: `15.18, 16.2`."""
    return ", ".join(sorted({one.version for one in programs})) or "none"
