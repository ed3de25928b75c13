"""The true S3 server for tests: a Ceph gateway, which keeps versions, object locks and bucket
policies, and writes only what is absent where it is asked to. One monitor, one store in memory.

The order of the calls is that of a deployment by hand:
https://docs.ceph.com/en/pacific/install/manual-deployment/
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runner.secret import Secret
from runner.target.s3_request import Key, Requests
from tests.tools import require_program
from tests.wire import free_port

PATIENCE_SECONDS = 120.0
STORE_BYTES = 2 << 30
OWNER = "tests"

_numbers = itertools.count()


@dataclass
class CephServer:
    """One cluster of a few processes, in one folder."""

    folder: Path  # private; its path is short, since sockets lie in it
    port: int = 0
    monitor_port: int = 0
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict, repr=False)
    keys: dict[str, Key] = field(default_factory=dict, repr=False)  # by user

    @property
    def endpoint(self) -> str:
        """The gateway's address."""
        return f"http://127.0.0.1:{self.port}"

    def build(self) -> None:
        """Configure it, start all of it, and make the user that owns the buckets."""
        self.port, self.monitor_port = free_port(), free_port()
        self._configure()
        self._make_keys()
        self._start_monitor()
        self._start_store()
        self.keys[OWNER] = self.make_user(OWNER)
        self.start("radosgw", "client.rgw")
        self.await_gateway()

    def make_user(self, name: str) -> Key:
        """A new user of the gateway, and its key."""
        made = self.call(
            *("radosgw-admin", "user", "create", f"--uid={name}", f"--display-name={name}")
        )
        (key,) = json.loads(made)["keys"]
        return Key(key["access_key"], key["secret_key"])

    def make_bucket(self, *, locking: bool = False) -> str:
        """The name of a new, empty bucket; one with `locking` keeps versions too."""
        name = f"bucket-{next(_numbers)}"
        self.ask(
            "PUT", name, headers={"x-amz-bucket-object-lock-enabled": "true"} if locking else {}
        )
        return name

    def ask(
        self,
        method: str,
        bucket: str,
        path: str = "",
        query: Mapping[str, str] | None = None,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        user: str = OWNER,
    ) -> bytes:
        """What a bucket's owner or another user is answered. Raises Refused."""
        requests = Requests(f"{self.endpoint}/{bucket}", "us-east-1", PATIENCE_SECONDS)
        answer, _ = requests.ask(
            method, path, query or {}, self.keys[user], body=body, headers=headers or {}
        )
        return answer

    def options(self, bucket: str, user: str = OWNER, **changes: Any) -> dict[str, Any]:
        """The options of an `s3` target at a bucket."""
        key = self.keys[user]
        for name, value in ((f"{user}.access", key.access_key), (f"{user}.secret", key.secret_key)):
            (self.folder / name).write_text(value)
        return {
            "endpoint": self.endpoint,
            "bucket": bucket,
            "prefix": "some/where",
            "access_key": Secret(f"file:{self.folder / f'{user}.access'}"),
            "secret_key": Secret(f"file:{self.folder / f'{user}.secret'}"),
            "retry": 10.0,
            "timeout": 60.0,
        } | changes

    def call(self, *arguments: str | Path) -> str:
        """What one of Ceph's programs says. Raises when it fails."""
        name, *others = arguments
        done = subprocess.run(
            [require_program(str(name), _package(str(name))), *self._who, *map(str, others)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
        )
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @property
    def _who(self) -> list[str]:
        return ["-c", str(self.folder / "ceph.conf")]

    def start(self, program: str, name: str) -> None:
        """Start one of its servers, in the foreground."""
        with (self.folder / f"{name}.out").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [require_program(program, program), *self._who, "--name", name, "--foreground"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """End one of its servers as a power cut would."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Until the block ends there is no room left: what is written waits for some."""
        self.call("ceph", "tell", "osd.0", "injectfull", "full")
        try:
            self._await_full(full=True)
            yield
        finally:
            self.call("ceph", "tell", "osd.0", "injectfull", "none")
            self._await_full(full=False)

    def _await_full(self, *, full: bool) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (",full" in self.call("ceph", "osd", "dump")) != full:
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def end(self) -> None:
        """End it as a power cut would."""
        for name in reversed(list(self.processes)):
            self.kill(name)

    def _configure(self) -> None:
        folder = self.folder
        settings = {
            "fsid": str(uuid.uuid4()),
            "mon_host": f"v2:127.0.0.1:{self.monitor_port}",
            "mon_initial_members": "a",
            "ms_bind_msgr1": "false",
            "run_dir": folder,
            "log_file": folder / "$name.log",
            "admin_socket": folder / "$name.$pid.asok",
            "pid_file": folder / "$name.pid",
            "keyring": folder / "keyring",
            "mon_data": folder / "mon",
            "osd_data": folder / "osd",
            "rgw_data": folder / "rgw",
            "crash_dir": folder / "crash",
            "public_network": "127.0.0.0/8",
            "auth_allow_insecure_global_id_reclaim": "false",
            "osd_pool_default_size": 1,
            "osd_pool_default_min_size": 1,
            "mon_allow_pool_size_one": "true",
            "mon_allow_pool_delete": "true",
            "osd_crush_chooseleaf_type": 0,
            "osd_pool_default_pg_num": 8,
            "osd_pool_default_pg_autoscale_mode": "off",
            "mon_max_pg_per_osd": 5000,
            "mon_data_avail_crit": 0,
            "osd_objectstore": "memstore",
            "memstore_device_bytes": STORE_BYTES,
            "rgw_frontends": f"beast endpoint=127.0.0.1:{self.port}",
        }
        lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
        (folder / "ceph.conf").write_text(f"[global]\n{lines}")
        for name in ("mon", "osd", "rgw", "crash"):
            (folder / name).mkdir()

    def _make_keys(self) -> None:
        keyring = self.folder / "keyring"
        rights = {
            "mon.": ("mon", "allow *"),
            "client.admin": ("mon", "allow *", "osd", "allow *", "mgr", "allow *"),
            "client.rgw": ("mon", "allow rwx", "osd", "allow rwx"),
            "osd.0": ("mon", "allow profile osd", "osd", "allow *", "mgr", "allow profile osd"),
        }
        keyring.touch()
        for name, may in rights.items():
            caps = [word for at in range(0, len(may), 2) for word in ("--cap", *may[at : at + 2])]
            self.call("ceph-authtool", keyring, "--gen-key", "--name", name, *caps)

    def _start_monitor(self) -> None:
        map_file, keyring = self.folder / "monmap", self.folder / "keyring"
        address = f"[v2:127.0.0.1:{self.monitor_port}]"
        self.call("monmaptool", "--create", "--addv", "a", address, "--fsid", self._fsid, map_file)
        self.call(
            *("ceph-mon", "--mkfs", "--id", "a"),
            *("--monmap", map_file, "--keyring", keyring),
        )
        self.start("ceph-mon", "mon.a")
        self.call("ceph", "--connect-timeout", "60", "mon", "stat")

    def _start_store(self) -> None:
        name = str(uuid.uuid4())
        self.call("ceph", "osd", "new", name, "0")
        self.call("ceph", "auth", "import", "-i", self.folder / "keyring")
        self.call("ceph-osd", "--mkfs", "--id", "0", "--osd-uuid", name)
        self.start("ceph-osd", "osd.0")

    @property
    def _fsid(self) -> str:
        (line,) = [
            one
            for one in (self.folder / "ceph.conf").read_text().splitlines()
            if one.startswith("fsid")
        ]
        return line.partition(" = ")[2]

    def await_gateway(self) -> None:
        """Return once the gateway answers."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            for name, process in self.processes.items():
                assert process.poll() is None, (self.folder / f"{name}.out").read_text()[-2000:]
            with contextlib.suppress(OSError), urllib.request.urlopen(self.endpoint):
                return
            time.sleep(0.05)
        raise TimeoutError((self.folder / "client.rgw.out").read_text()[-2000:])


def _package(program: str) -> str:
    known = {"ceph-authtool": "ceph-common", "monmaptool": "ceph-base", "ceph": "ceph-common"}
    return known.get(program, "radosgw")


@contextlib.contextmanager
def running() -> Iterator[CephServer]:
    """A server of its own, empty, until the block ends."""
    for program in ("radosgw", "ceph-mon", "ceph-osd"):
        require_program(program)
    server = CephServer(Path(tempfile.mkdtemp(prefix="ceph-")))
    try:
        server.build()
        yield server
    finally:
        server.end()
        shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def ceph_server() -> Iterator[CephServer]:
    """The one server of its tests, which are all of one group; each makes a bucket of its own."""
    with running() as server:
        yield server
