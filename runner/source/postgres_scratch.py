"""Scratch PostgreSQL clusters: for one drill or verification, on this machine, by socket alone.

A cluster belongs to its home, a folder. What cannot lie in that (a socket's path is short; root
may run no server, and others may not enter root's folders) lies in a private folder elsewhere,
which the process note in the home names, from before it is made.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import secrets
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.daemon import PREFIX, end_daemons, last_words, note_daemon, note_folders
from runner.durable import make_folder, write_bytes
from runner.errors import PersonNeeded
from runner.owner import owner_of
from runner.process import CommandFailed, run
from runner.swap import remove_tree

NOTE = "postgres.process"
FOUND = "postgres.json"
DATA = "data"
RESTORED = "databases.json"

# As nearly everywhere: what the system made is owned by it in a restored database too. A role of
# this name in a snapshot changes nothing, since roles that are there are left as they are.
SUPERUSER = "postgres"
PORT = 5432  # names the socket; nothing listens on the network

UNPRIVILEGED = ("postgres", "nobody")  # the first that exists runs the server where root starts it
ELSEWHERE = Path("/var/tmp")  # noqa: S108 - for data: a private folder, on a disk and not in memory
SHORT = Path("/tmp")  # noqa: S108 - for sockets: a private folder
START_SECONDS = 120.0

# A crash loses a scratch cluster, so nothing is waited for; what runs by itself is off, so that
# nothing of production is reached; memory is asked for in files that go with the folder.
SETTINGS = """
listen_addresses = ''
port = {port}
unix_socket_directories = '{socket}'
unix_socket_permissions = 0700
fsync = off
full_page_writes = off
synchronous_commit = off
wal_level = minimal
max_wal_senders = 0
max_wal_size = 16GB
checkpoint_timeout = 1h
archive_mode = off
autovacuum = off
max_logical_replication_workers = 0
max_connections = 60
max_locks_per_transaction = 512
shared_buffers = 128MB
maintenance_work_mem = 128MB
dynamic_shared_memory_type = mmap
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
logging_collector = off
"""


@dataclass(frozen=True)
class Cluster:
    """A scratch cluster that was started."""

    socket: Path  # the folder of its socket
    data: Path
    programs: Path  # the folder of the programs that run it

    @property
    def log(self) -> Path:
        """What the server said."""
        return self.socket / "server.log"


def find(home: Path) -> Cluster | None:
    """The cluster that was started in a home, if it was."""
    try:
        found = json.loads((home / FOUND).read_bytes())
        return Cluster(Path(found["socket"]), Path(found["data"]), Path(found["programs"]))
    except FileNotFoundError:
        return None


def start(home: Path, programs: Path, encoding: str = "UTF8") -> Cluster:
    """Start a new, empty cluster in `home`, or return the one that runs there already.

    `programs` is the folder of `initdb` and `pg_ctl`. Raises PersonNeeded when this machine
    cannot run a scratch server: that says nothing of what was to be proven.
    """
    found = find(home)
    if found is not None and _process_id(found) is not None:
        return found
    for name in ("initdb", "pg_ctl", "postgres"):
        if not (programs / name).exists():
            raise PersonNeeded(
                f"There is no {name} in {programs}, so no scratch server can be started.",
                remedy="Install the server of that version: `holdfast doctor` says how.",
            )
    stop(home)  # what a killed start left
    runs_as = _runs_as()
    make_folder(home)
    private = (SHORT if runs_as is None else ELSEWHERE) / f"{PREFIX}{secrets.token_hex(6)}"
    note_folders(home / NOTE, [private])
    cluster = Cluster(private, (home if runs_as is None else private) / DATA, programs)
    try:
        private.mkdir(mode=0o700)
        if runs_as is not None:
            os.chown(private, runs_as.pw_uid, runs_as.pw_gid)
        _initialize(cluster, runs_as, encoding)
        _start(cluster, runs_as)
        note_daemon(home / NOTE, _process_id(cluster) or 0, [private])
    except BaseException as error:
        stop(home, cluster)
        if isinstance(error, OSError):
            raise PersonNeeded(f"No scratch server can be started: {error}.") from error
        raise
    document = {key: str(value) for key, value in vars(cluster).items()}
    write_bytes(home / FOUND, json.dumps(document).encode())
    return cluster


def stop(home: Path, cluster: Cluster | None = None) -> None:
    """End the cluster of a home, and remove all of it; harmless where there is none."""
    cluster = cluster or find(home)
    for name in (FOUND, RESTORED):
        (home / name).unlink(missing_ok=True)
    process = cluster and _process_id(cluster)
    if process:
        with contextlib.suppress(OSError):
            # It is thrown away: neither its clients nor its memory are waited for.
            os.kill(process, signal.SIGQUIT)
    end_daemons(home)
    remove_tree(home / DATA)


def note_databases(home: Path, names: Sequence[str]) -> None:
    """Remember what was restored into a scratch server, the first first."""
    write_bytes(home / RESTORED, json.dumps(list(names)).encode())


def databases(home: Path) -> list[str]:
    """What was restored into a scratch server."""
    try:
        return list(json.loads((home / RESTORED).read_bytes()))
    except FileNotFoundError:
        return []


def _initialize(cluster: Cluster, runs_as: pwd.struct_passwd | None, encoding: str) -> None:
    arguments: list[str | Path] = [
        cluster.programs / "initdb",
        f"--pgdata={cluster.data}",
        f"--username={SUPERUSER}",
        "--auth-local=trust",
        "--auth-host=reject",
        f"--encoding={encoding}",
        "--locale=C",
        "--no-sync",
    ]
    _run(arguments, cluster, runs_as)
    with (cluster.data / "postgresql.conf").open("a") as file:
        file.write(SETTINGS.format(port=PORT, socket=cluster.socket))


def _start(cluster: Cluster, runs_as: pwd.struct_passwd | None) -> None:
    arguments: list[str | Path] = [
        cluster.programs / "pg_ctl",
        "start",
        "--wait",
        f"--timeout={START_SECONDS:.0f}",
        f"--pgdata={cluster.data}",
        f"--log={cluster.log}",
    ]
    _run(arguments, cluster, runs_as)


def _run(
    arguments: Sequence[str | Path], cluster: Cluster, runs_as: pwd.struct_passwd | None
) -> None:
    """Run a program of the server's as the user who may; it is told nothing of ours."""
    kept = ("PATH", "LD_LIBRARY_PATH", "TMPDIR")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {"LC_ALL": "C", "HOME": str(cluster.socket)}
    prefix: list[str] = []
    if runs_as is not None:
        ids = [f"--reuid={runs_as.pw_uid}", f"--regid={runs_as.pw_gid}", "--clear-groups"]
        prefix = ["setpriv", *ids, "--"]
        environment.pop("TMPDIR", None)  # root's own, maybe
    try:
        run(
            [*prefix, *arguments],
            environment=environment,
            folder=cluster.socket,
            timeout=START_SECONDS + 10,
        )
    except CommandFailed as error:
        said = last_words(cluster.log) or error.outcome.stderr
        raise PersonNeeded(
            f"The scratch server cannot be started: {Path(arguments[0]).name} says: {said}",
            remedy="Check the disk's free space, and the programs: `holdfast doctor`.",
        ) from error


def _process_id(cluster: Cluster) -> int | None:
    """The server's process; None when it does not run."""
    try:
        process = int((cluster.data / "postmaster.pid").read_text().splitlines()[0])
        owner_of(process)
    except (OSError, ValueError, IndexError):
        return None
    return process


def _runs_as() -> pwd.struct_passwd | None:
    """Who runs the server: None for the user who asks. PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise PersonNeeded(
        "PostgreSQL does not run as root, and there is no user `postgres` or `nobody`.",
        remedy="Make a user `postgres`, or run as another user than root.",
    )
