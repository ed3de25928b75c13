"""A machine that can be lost as a whole: its servers, their data folders, working copies, state.

What is left then is one target, and what an operator keeps elsewhere: how to set up a machine. The
first step of the recovery does that.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from string import Template

from runner.owner import alive, owner_of
from tests import postgres_server, redis_server
from tests.postgres_server import INITDB, SETTINGS, Cluster, Database
from tests.redis_server import RedisServer
from tests.tools import require_program
from tests.whole_stack import WholeStack

# What a machine needs that has nothing but programs. It may run again and again.
PROVISION = Template("""\
set -eu
umask 077
mkdir -p $postgres $redis
$give_away
cd /
test -e $postgres/data/PG_VERSION || $as_user $programs/initdb -D $postgres/data $initdb
$as_user $programs/pg_ctl -D $postgres/data status ||
  $as_user $programs/pg_ctl -D $postgres/data -l $postgres/log -w -o $options start
cp $image/redis.conf $redis
cd $redis
test -e pid || $redis_server redis.conf --daemonize yes --pidfile $redis/pid --logfile $redis/log
""")
DEADLINE_SECONDS = 60.0


class Machine:
    """Where the two servers of a service are, and how they come to be there."""

    def __init__(self, image: Path) -> None:
        require_program("setpriv")
        image.mkdir()
        self.script = image / "provision.sh"
        # Short, for the names of sockets.
        home = Path(tempfile.mkdtemp(prefix="whole-", dir="/tmp"))
        home.chmod(0o755)
        self.home = home
        programs = postgres_server.debian_programs()
        port = postgres_server.free_port()
        self.server = RedisServer(home / "redis", require_program("redis-server"))
        self.server.port = redis_server.free_port()
        (image / "redis.conf").write_text(self.server.configuration_file())
        own = home / "postgres"
        self.script.write_text(
            PROVISION.substitute(
                postgres=own,
                redis=home / "redis",
                redis_server=self.server.program,
                image=image,
                programs=programs,
                as_user=shlex.join(postgres_server.as_user()),
                initdb=shlex.join(INITDB),
                options=shlex.quote(_options(own, port)),
                give_away=_giving_away(own),
            )
        )
        self.cluster = Cluster(programs, own, port, self.provision())

    def provision(self) -> subprocess.Popen[bytes]:
        """Set it up."""
        with (self.script.parent / "log").open("wb") as log:
            words = ["bash", str(self.script)]
            done = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        assert done.wait() == 0, (self.script.parent / "log").read_text()
        self.server.wait()
        return done

    def lose(self) -> None:
        """End both servers as a power cut does, and remove all of them."""
        _end(self.home / "postgres" / "data" / "postmaster.pid", signal.SIGQUIT)
        _end(self.home / "redis" / "pid", signal.SIGKILL)
        for name in ("postgres", "redis"):
            shutil.rmtree(self.home / name, ignore_errors=True)

    def close(self) -> None:
        """Leave nothing."""
        self.lose()
        shutil.rmtree(self.home)


class WholeMachine(WholeStack):
    """The service of all kinds on a machine of its own, recovered with nothing but an address."""

    def __init__(self, folder: Path, target: Path, machine: Machine, database: Database) -> None:
        super().__init__(folder, target, database, machine.server)
        self.machine = machine
        text = (folder / "backup.yaml").read_text()
        provision = f"bash {machine.script} >> service.log 2>&1; echo provisioned > service.log"
        declared = 'run: "echo provisioned >> service.log"'
        assert declared in text
        (folder / "backup.yaml").write_text(text.replace(declared, f'run: "{provision}"'))

    def destroy(self) -> None:
        """Lose the whole machine: servers, their data, every working copy, the state, the spec.
        An empty folder is left.
        """
        self.digest = hashlib.sha256((self.folder / "backup.yaml").read_bytes()).hexdigest()
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        self.machine.lose()

    @property
    def by_address(self) -> list[str]:
        """The flags of a recovery that has a target's address and nothing else."""
        flags = ["--from", str(self.target), "--dir", str(self.folder)]
        return [*flags, "--confirm-spec", self.digest]


@contextlib.contextmanager
def whole_machine(folder: Path) -> Iterator[WholeMachine]:
    """A service that runs on a machine; nothing of either is left afterwards."""
    machine = Machine(folder / "image")
    try:
        database = postgres_server.new_database(machine.cluster)
        service = WholeMachine(folder / "service", folder / "target", machine, database)
        service.build()
        yield service
    finally:
        machine.close()


@contextlib.contextmanager
def writers(stack: WholeStack) -> Iterator[None]:
    """Somebody who writes to everything all the time, until the block ends."""
    done = threading.Event()

    def write() -> None:
        with stack.server.connect() as client, stack.database.connect() as connection:
            number = 1000
            while not done.is_set():
                number += 1
                client.incr("visits")
                connection.execute("INSERT INTO players VALUES (%s, 'new')", [number])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _options(folder: Path, port: int) -> str:
    """The server's own options, as one line."""
    settings = [f"-c {name}={value}" for name, value in SETTINGS.items()]
    return " ".join([f"-k {folder} -h 127.0.0.1 -p {port}", *settings])


def _giving_away(folder: Path) -> str:
    """The line that gives a folder to the user that PostgreSQL runs as."""
    if os.geteuid() != 0:
        return ""
    user = postgres_server.unprivileged()
    return f"chown {user.pw_uid}:{user.pw_gid} {folder}"


def _end(note: Path, number: signal.Signals) -> None:
    if not note.exists():
        return
    server = owner_of(int(note.read_text().split()[0]))
    os.kill(server.pid, number)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while alive(server) and time.monotonic() < deadline:
        time.sleep(0.01)
