"""A server program that tests start on a folder of its own, kill, and start again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tests.wire import free_port

PATIENCE_SECONDS = 60.0


@dataclass
class PortServer(ABC):
    """One server, which keeps everything in its folder and listens on one port of this machine."""

    folder: Path  # private
    port: int = field(default=0, kw_only=True)  # 0: it has never run
    process: subprocess.Popen[bytes] | None = field(default=None, kw_only=True, repr=False)

    @property
    def data(self) -> Path:
        """What it keeps."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What it says."""
        return self.folder / "log"

    @property
    def environment(self) -> Mapping[str, str]:
        """What its environment has beside that of the tests."""
        return {}

    @abstractmethod
    def command(self) -> Sequence[str | Path]:
        """How it is started on its port."""

    def start(self) -> None:
        """Start it on what its folder holds, and wait until it answers."""
        self.port = self.port or free_port()
        self.data.mkdir(exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.answers():
            assert self.process.poll() is None, self.log.read_text()[-2000:]
            if time.monotonic() > deadline:
                raise TimeoutError(self.log.read_text()[-2000:])
            time.sleep(0.01)

    def answers(self) -> bool:
        """Whether it takes connections."""
        with contextlib.suppress(OSError), socket.create_connection(("localhost", self.port)):
            return True
        return False

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it in good order, or as a power cut would."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait()
            self.process = None


Kind = TypeVar("Kind", bound=PortServer)


@contextlib.contextmanager
def running_in_a_folder(kind: Callable[[Path], Kind]) -> Iterator[Kind]:
    """A server on a new, empty folder, until the block ends."""
    server = kind(Path(tempfile.mkdtemp(prefix="server-")))
    try:
        server.start()
        yield server
    finally:
        server.end(signal.SIGKILL)
        shutil.rmtree(server.folder)
