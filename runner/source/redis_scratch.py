"""Scratch Redis servers: for one restore, drill or verification, on this machine, by socket alone.

A server belongs to a folder and has a name there. Its socket lies in a short private folder
elsewhere, since a socket's path has room for a hundred bytes; the process note in the folder names
both, so that they go with it.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from runner.daemon import PREFIX, end_daemon, last_words, note_daemon, note_folders
from runner.durable import make_folder, write_bytes
from runner.errors import HoldfastError, PersonNeeded, StepFailed
from runner.owner import alive, owner_of
from runner.process import CommandFailed, run
from runner.source.redis_address import Address
from runner.source.redis_connect import Unreachable, connect

SHORT = Path("/tmp")  # noqa: S108 - for sockets: a private folder
URL = f"unix://{SHORT}/{PREFIX}"
PROGRAMS = ("redis-server", "valkey-server")
PACKAGE = "redis-server"
DUMP = "dump.rdb"
START_SECONDS = 30.0  # until it answers at all: while it loads, it does
PAUSE_SECONDS = 0.02
FEWEST = 1024  # logical databases: whoever looks into one that is empty finds it
MOST_MEMORY = 0.9  # of what is free: a restore must not starve what runs beside it

# Nothing is saved, nothing is reached over the network, nothing is refused for its size.
SETTINGS = """
port 0
unixsocket {socket}/redis.sock
unixsocketperm 700
pidfile {socket}/pid
dir {socket}
logfile {log}
daemonize yes
save ""
appendonly no
dbfilename dump.rdb
databases {databases}
maxmemory 0
proto-max-bulk-len 8gb
client-query-buffer-limit 8gb
stop-writes-on-bgsave-error no
"""

# What the log of a server says that cannot read a file, although the file may be whole.
_TOO_OLD = re.compile(r"Can't handle RDB format version (\S+)")
_MODULE = re.compile(r"module data I can't load: no matching module type '([^']*)'")
_DAMAGED = re.compile(
    r"(?i)short read|bad file format|wrong.*checksum|corrupt|RDB.*error|error.*RDB|wrong signature"
    r"|unknown RDB|terminating server after rdb"
)


@dataclass(frozen=True)
class ScratchServer:
    """A scratch server that was started."""

    socket: Path
    program: str  # its path

    @property
    def address(self) -> Address:
        """Where it is asked."""
        return Address(socket=str(self.socket))

    def url(self, database: int) -> str:
        """What names it and one of its databases; begins with `URL`."""
        return replace(self.address, database=database).url


def programs() -> list[str]:
    """The paths of the servers that are installed."""
    return [path for name in PROGRAMS if (path := shutil.which(name))]


def find(folder: Path, name: str) -> ScratchServer | None:
    """The server of that name in a folder, if it was started and still runs."""
    try:
        found = json.loads((folder / f"{name}.server").read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    server = ScratchServer(Path(found["socket"]), found["program"])
    return server if _runs(server) else None


def start(
    folder: Path,
    name: str,
    rdb: Path | None = None,
    memory: int = 0,
    databases: int = 0,
    fill: Callable[[ScratchServer], object] = lambda _: None,
    first: str = "",
) -> ScratchServer:
    """Start a new server that holds what `rdb` holds, which takes about `memory` bytes and has so
    many logical databases, and then what `fill` gives it. The installed servers are tried in turn,
    the program `first` before them.

    Raises PersonNeeded when this machine cannot run such a server, which says nothing of the
    file, and StepFailed when the file is damaged.
    """
    _require_memory(memory)
    found = sorted(programs(), key=lambda one: one != first)
    if not found:
        raise PersonNeeded(
            "Neither redis-server nor valkey-server is installed, so what was stored cannot be "
            "loaded and looked at.",
            remedy=f"apt-get install {PACKAGE} (it need not run).",
        )
    refusal: PersonNeeded | None = None
    for program in found:
        try:
            server = _start(folder, name, program, rdb, max(FEWEST, databases))
            fill(server)
        except PersonNeeded as error:
            refusal = refusal or error
            stop(folder, name)
        except BaseException:
            stop(folder, name)
            raise
        else:
            return server
    assert refusal is not None
    raise refusal


def stop(folder: Path, name: str) -> None:
    """End the server of that name, and remove all of it; harmless where there is none."""
    (folder / f"{name}.server").unlink(missing_ok=True)
    end_daemon(folder / f"{name}.process")


def _start(
    folder: Path, name: str, program: str, rdb: Path | None, databases: int
) -> ScratchServer:
    stop(folder, name)  # what a killed start left
    private = SHORT / f"{PREFIX}{secrets.token_hex(6)}"
    note, log = folder / f"{name}.process", private / "log"
    try:
        make_folder(folder)
        note_folders(note, [private])
        private.mkdir(mode=0o700)
        if rdb is not None:
            (private / DUMP).symlink_to(rdb.absolute())
        settings = private / "settings"
        settings.write_text(SETTINGS.format(socket=private, log=log, databases=databases))
        run([program, settings], folder=private, timeout=START_SECONDS)
        note_daemon(note, _process_id(private), [private])
        server = ScratchServer(private / "redis.sock", program)
        _await(server, log, rdb)
        found = {"socket": str(server.socket), "program": program}
        write_bytes(folder / f"{name}.server", json.dumps(found).encode())
    except (OSError, CommandFailed) as error:
        said = last_words(log)
        stop(folder, name)
        raise PersonNeeded(
            f"No scratch server can be started: {getattr(error, 'message', error)} {said}".strip(),
            remedy="Check the free space of /tmp, and the program: `holdfast doctor`.",
        ) from error
    except BaseException:
        stop(folder, name)
        raise
    return server


def _process_id(private: Path) -> int:
    """The server's process: it writes that down soon after it was started."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError, ValueError):
            return int((private / "pid").read_text())
        if _DAMAGED.search(said := last_words(private / "log")):
            raise StepFailed(f"What was stored cannot be loaded: {_reason(said)}")
        time.sleep(PAUSE_SECONDS)
    raise PersonNeeded(f"The scratch server does not start: {last_words(private / 'log')}")


def _await(server: ScratchServer, log: Path, rdb: Path | None) -> None:
    """Wait until the file is loaded, however long that takes, as long as the server lives."""
    silent_since = time.monotonic()
    while True:
        try:
            with connect(server.address) as connection:
                if b"\nloading:0" in connection.call("INFO", "persistence"):
                    return
            silent_since = time.monotonic()
        except Unreachable:
            if time.monotonic() > silent_since + START_SECONDS or not _runs(server):
                raise _why(log, rdb) from None
        time.sleep(PAUSE_SECONDS)


def _runs(server: ScratchServer) -> bool:
    try:
        return alive(owner_of(int(server.socket.with_name("pid").read_text())))
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return False


def _why(log: Path, rdb: Path | None) -> HoldfastError:
    """What the end of a server says: of the file, or of this machine."""
    said = last_words(log)
    version = _TOO_OLD.search(said)
    if version or _of_valkey(rdb, said):
        which = f"RDB version {version[1]}" if version else "the form of Valkey 9 and later"
        return PersonNeeded(
            f"What was stored has {which}, which the server installed here cannot read.",
            remedy="Install a Redis or Valkey server that is not older than the one captured.",
        )
    if module := _MODULE.search(said):
        return PersonNeeded(
            f"What was stored needs the module of the type {module[1]}, which is not loaded here.",
            remedy="Put a program named redis-server in front in PATH that loads it: "
            'exec /usr/bin/redis-server "$@" --loadmodule FILE',
        )
    if _DAMAGED.search(said):
        return StepFailed(
            f"What was stored cannot be loaded: {_reason(said)}",
            remedy="Use another snapshot or target.",
        )
    return PersonNeeded(
        f"The scratch server has ended while it loaded: {said[-500:] or 'it said nothing'}",
        remedy="Is there memory enough for all of the content?",
    )


def _of_valkey(rdb: Path | None, said: str) -> bool:
    """Whether a Redis server calls wrong what only Valkey reads."""
    if rdb is None or "Wrong signature" not in said:
        return False
    with rdb.open("rb") as file:
        return file.read(6) == b"VALKEY"


def _reason(said: str) -> str:
    lines = [line for line in said.splitlines() if _DAMAGED.search(line)]
    return lines[0].rpartition(" # ")[2][:300] if lines else said[-300:]


def _require_memory(needed: int) -> None:
    with contextlib.suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(line for line in lines if line.startswith("MemAvailable:"))
        free = int(line.split()[1]) * 1024
        if needed > free * MOST_MEMORY:
            raise PersonNeeded(
                f"The content takes about {needed:,} bytes of memory, and {free:,} are free here: "
                "a scratch server would starve what runs beside it.",
                remedy="Verify and drill on a machine that has the memory.",
            )
