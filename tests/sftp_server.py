"""A real SSH server for tests, started by the user who runs them, who logs in to it."""

from __future__ import annotations

import contextlib
import getpass
import itertools
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runner.secret import Secret
from tests.port_server import PortServer, running_in_a_folder
from tests.tools import require_program
from tests.wire import free_port

_numbers = itertools.count()

# OpenSSH 9.8 and later shut out for a while whoever failed to log in, as these tests do on purpose.
PATIENT = "PerSourcePenalties no"


@dataclass
class SftpServer(PortServer):
    """One server, and the keys that it and its only user have."""

    configuration: Sequence[str] = ()  # more lines of it

    @property
    def key(self) -> Path:
        """The user's private key."""
        return self.folder / "user"

    @property
    def known_hosts(self) -> Path:
        """What the user knows: this server."""
        return self.folder / "known_hosts"

    def options(self, **changes: Any) -> dict[str, Any]:
        """The options of an `sftp` target at a new, empty folder of it."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "user": getpass.getuser(),
            "path": str(self.data / f"backups-{next(_numbers)}"),
            "key": Secret(f"file:{self.key}"),
            "known_hosts": str(self.known_hosts),
            "timeout": 30.0,
            "retry": 2.0,
        } | changes

    def build(self) -> None:
        """Make its keys, and write what it reads."""
        self.data.mkdir()
        self.port = free_port()
        for name in ("host", "user"):
            call = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / name)]
            subprocess.run(call, check=True)
        shutil.copy(self.folder / "user.pub", self.folder / "authorized_keys")
        host_key = (self.folder / "host.pub").read_text()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {host_key}")
        lines = [
            "ListenAddress 127.0.0.1",
            f"Port {self.port}",
            f"HostKey {self.folder}/host",
            f"AuthorizedKeysFile {self.folder}/authorized_keys",
            f"PidFile {self.folder}/pid",
            "PermitRootLogin yes",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "UsePAM no",
            "StrictModes no",
            "MaxStartups 1000",
            "Subsystem sftp internal-sftp",
            *self.configuration,
        ]
        configuration = self.folder / "sshd_config"
        for more in (PATIENT, ""):
            configuration.write_text("\n".join([*lines, more]) + "\n")
            call = [require_program("sshd"), "-t", "-f", str(configuration)]
            if subprocess.run(call, capture_output=True, check=False).returncode == 0:
                break

    def command(self) -> list[str | Path]:
        """How it is started on its port."""
        return [require_program("sshd"), "-D", "-e", "-f", self.folder / "sshd_config"]

    def start(self) -> None:
        """Start it, and wait until it answers."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        if not self.key.exists():
            self.build()
        super().start()

    def answers(self) -> bool:
        """Whether it says what it is."""
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port)) as probe,
        ):
            return probe.recv(4) == b"SSH-"
        return False

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it and its connections, in good order or as a power cut would."""
        if self.process is not None:
            for child in _children(self.process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        super().end(number)


def _children(parent: int) -> list[int]:
    """The processes that serve one connection each, and those below them."""
    text = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    found = [int(one) for one in text]
    below = []
    for child in found:
        with contextlib.suppress(FileNotFoundError):
            below += _children(child)
    return found + below


def running(*configuration: str) -> contextlib.AbstractContextManager[SftpServer]:
    """A server of its own, until the block ends."""
    require_program("ssh-keygen")
    return running_in_a_folder(lambda folder: SftpServer(folder, configuration))


@pytest.fixture(scope="session")
def sftp_server() -> Iterator[SftpServer]:
    """The worker's server; each test has a folder of its own."""
    with running() as server:
        yield server
