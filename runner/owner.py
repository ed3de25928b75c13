"""Who holds a lock or a scratch folder, and whether that process still lives.

A process is its id, the time it started and the boot it belongs to: an id alone is given to
another process sooner or later.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_BOOT = Path("/proc/sys/kernel/random/boot_id")
# A child that a killed process had forked holds its locks until it has become its program.
FORKING_SECONDS = 1.0
_POLL_SECONDS = 0.05
_GONE = ("Z", "X", "x")  # a zombie waits for its parent; it will never do anything again


@dataclass(frozen=True)
class Owner:
    """One process, of all that ever ran."""

    pid: int
    started: int  # clock ticks between the boot and the start of the process
    boot: str  # the kernel's id of this boot
    host: str

    def to_json(self) -> dict[str, Any]:
        """The form that is written into a note or a lock."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Any) -> Owner:
        """Read a note. Raises ValueError when it is none."""
        match document:
            case {"pid": int(pid), "started": int(started), "boot": str(boot), "host": str(host)}:
                return cls(pid, started, boot, host)
        raise ValueError("not the note of an owner")

    def describe(self) -> str:
        """For a person: `process 4711 on quay1`."""
        return f"process {self.pid} on {self.host}"


def this_process() -> Owner:
    """The process that asks."""
    return owner_of(os.getpid())


def owner_of(pid: int) -> Owner:
    """A process on this machine. Raises ProcessLookupError when there is none of that id."""
    try:
        _, started = _state(pid)
    except FileNotFoundError as error:
        raise ProcessLookupError(f"no process {pid}") from error
    return Owner(pid, started, _boot(), socket.gethostname())


def seen(owner: Owner) -> bool:
    """Whether that process would be seen from here: not on another host, or in a container, which
    has another name each time. Of those only the kernel's lock knows whether they live.
    """
    return owner.host == socket.gethostname()


def alive(owner: Owner) -> bool:
    """Whether that very process still runs; one that is not `seen` counts as alive."""
    if not seen(owner):
        return True
    if owner.boot != _boot():
        return False
    try:
        state, started = _state(owner.pid)
    except (FileNotFoundError, ProcessLookupError):
        return _hidden(owner.pid)
    return started == owner.started and state not in _GONE


def lock(descriptor: int, *, shared: bool = False, wait: float = FORKING_SECONDS) -> bool:
    """Take the kernel's lock of an open file, within `wait` seconds; whether that was possible.

    It ends with the process, or when the file is closed.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        else:
            return True


def is_locked(path: Path) -> bool:
    """Whether a living process has the kernel's lock of a file."""
    with path.open("rb") as file:
        return not lock(file.fileno(), wait=0)


def _boot() -> str:
    return _BOOT.read_text().strip()


def _state(pid: int) -> tuple[str, int]:
    """The state letter and the start of a process; its name may hold blanks and brackets."""
    text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _hidden(pid: int) -> bool:
    """Whether a process without an entry in /proc exists all the same (mount option hidepid)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
