"""A folder of an SSH server as a target: what holds for every target, and what SFTP adds."""

from __future__ import annotations

import asyncio
import getpass
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from runner.errors import Locked, StepFailed, UsageError
from runner.secret import Secret
from runner.spec.model import TargetSpec
from runner.target import KeyExists, lease, sftp_session
from runner.target.sftp import SftpTarget, open_target
from tests.cable import cable_to
from tests.faults.test_disk import fill, small_disk
from tests.sftp_server import SftpServer, _children, running
from tests.target.conformance import TargetConformance, keys, read
from tests.target.off_site import brings_everything_back
from tests.tools import require_program
from tests.wire import free_port

if TYPE_CHECKING:
    import asyncssh

MIB = 1024 * 1024
Opened = Callable[..., SftpTarget]


def opened_at(server: SftpServer, folder: Path, **changes: Any) -> SftpTarget:
    """A target at a new folder of a server, with some options changed; None takes one away."""
    given = {name: one for name, one in server.options(**changes).items() if one is not None}
    return open_target(TargetSpec("nas", "sftp", given, folder))


@pytest.fixture
def opened(sftp_server: SftpServer, tmp_path: Path) -> Opened:
    return lambda **changes: opened_at(sftp_server, tmp_path, **changes)


@pytest.fixture
def own_server() -> Iterator[SftpServer]:
    """One that a test may kill."""
    with running() as server:
        yield server


def root_of(target: SftpTarget) -> Path:
    return Path(target._address.root)


class TestConformance(TargetConformance):
    @pytest.fixture
    def spec(self, sftp_server: SftpServer, tmp_path: Path) -> TargetSpec:
        return TargetSpec("nas", "sftp", sftp_server.options(), tmp_path)


class TestErrors:
    """Each names the target and the server, and says what to do."""

    def expect(self, target: SftpTarget, reason: str, remedy: str) -> None:
        attempts: list[Callable[[], object]] = [
            target.check,
            lambda: target.put("shop/a", [b"x"]),
            lambda: list(target.entries("")),
            lambda: read(target, "shop/a"),
        ]
        for attempt in attempts:
            with pytest.raises(StepFailed, match=reason) as caught:
                attempt()
            assert "nas" in caught.value.message
            assert remedy in caught.value.remedy

    def test_a_key_that_the_server_does_not_know(self, opened: Opened, tmp_path: Path) -> None:
        other = make_key(tmp_path / "other")
        self.expect(opened(key=Secret(f"file:{other}")), "does not accept the login", "key")

    def test_an_unknown_host(self, opened: Opened, sftp_server: SftpServer, tmp_path: Path) -> None:
        empty = tmp_path / "known hosts"
        target = opened(known_hosts=str(empty))
        public = (sftp_server.folder / "host.pub").read_text()
        call = ["ssh-keygen", "-l", "-f", str(sftp_server.folder / "host.pub")]
        shown = subprocess.run(call, capture_output=True, text=True, check=True).stdout.split()[1]
        self.expect(target, "is not known", "ssh-keyscan")
        with pytest.raises(StepFailed) as caught:
            target.check()
        assert shown in caught.value.message
        line = caught.value.remedy.partition(": ")[2]
        subprocess.run(["bash", "-e", "-c", line], check=True, capture_output=True)
        assert public.split()[1] in empty.read_text()
        opened(known_hosts=str(empty)).check()

    def test_a_host_that_shows_another_key(
        self, opened: Opened, sftp_server: SftpServer, tmp_path: Path
    ) -> None:
        other = make_key(tmp_path / "other").with_suffix(".pub").read_text()
        (tmp_path / "known").write_text(f"[127.0.0.1]:{sftp_server.port} {other}")
        target = opened(known_hosts=str(tmp_path / "known"))
        self.expect(target, "another key than the known one", "Somebody stands between")
        with pytest.raises(StepFailed) as caught:
            target.check()
        lines = caught.value.remedy.partition("is so: ")[2]
        subprocess.run(["bash", "-e", "-c", lines], check=True, capture_output=True)
        opened(known_hosts=str(tmp_path / "known")).check()

    def test_nobody_listens(self, opened: Opened) -> None:
        self.expect(opened(port=free_port(), retry=0.2), "refuses connections", "port")

    def test_an_unknown_name(self, opened: Opened) -> None:
        self.expect(opened(host="no.such.host.invalid", retry=0.2), "name is not known", "host")

    def test_a_missing_parent_is_told_and_not_made(
        self, opened: Opened, sftp_server: SftpServer
    ) -> None:
        target = opened(path=f"{sftp_server.data}/stick/backups")
        for attempt in (target.check, lambda: target.put("a", [b"x"])):
            with pytest.raises(StepFailed, match="stick/backups is missing") as caught:
                attempt()
            assert "Mount" in caught.value.remedy
        assert not (sftp_server.data / "stick").exists()
        assert list(target.entries("")) == []

    def test_a_server_that_lets_nobody_write(self, tmp_path: Path) -> None:
        with running("ForceCommand internal-sftp -R") as server:
            target = opened_at(server, tmp_path)
            root_of(target).mkdir()
            (root_of(target) / "kept").write_bytes(b"k")
            for attempt in (target.check, lambda: target.put("a", [b"x"])):
                with pytest.raises(StepFailed, match="refuses this user") as caught:
                    attempt()
                assert "permission" in caught.value.remedy
            assert read(target, "kept") == b"k"
            assert target.now().utcoffset() is not None

    @pytest.mark.parametrize("begins", ["exit 1", "echo Welcome; cat"])
    def test_a_login_that_has_no_sftp(self, tmp_path: Path, begins: str) -> None:
        with running(f"ForceCommand {begins}") as server:
            target = opened_at(server, tmp_path)
            self.expect(target, "then speaks no SFTP", "must work too")

    def test_the_library_is_not_installed(
        self, opened: Opened, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "asyncssh", None)
        target = opened()
        self.expect(target, "library", "pip install 'holdfast[sftp]'")
        assert target.location("a").startswith("sftp://")

    def test_a_key_that_is_none(self, opened: Opened, tmp_path: Path) -> None:
        (tmp_path / "key").write_text("no key at all")
        with pytest.raises(UsageError, match="cannot be used") as caught:
            opened(key=Secret(f"file:{tmp_path / 'key'}")).check()
        assert "no key at all" not in str(caught.value)


class TestLogin:
    def test_a_key_with_a_passphrase(
        self, opened: Opened, sftp_server: SftpServer, tmp_path: Path
    ) -> None:
        key = tmp_path / "locked"
        shutil.copy(sftp_server.key, key)
        call = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "long enough", "-f", str(key)]
        subprocess.run(call, check=True, capture_output=True)
        (tmp_path / "passphrase").write_text("long enough\n")
        secret = Secret(f"file:{key}")
        opened(key=secret, passphrase=Secret(f"file:{tmp_path / 'passphrase'}")).check()
        with pytest.raises(UsageError, match="cannot be used") as caught:
            opened(key=secret).check()
        assert "passphrase" in caught.value.remedy

    def test_the_agent_is_asked_where_no_key_is_declared(
        self, opened: Opened, sftp_server: SftpServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        address = sftp_server.folder / f"agent-{os.urandom(4).hex()}"
        agent = subprocess.Popen(
            [require_program("ssh-agent", "openssh-client"), "-D", "-a", address],
            stdout=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 60
            while not address.exists():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            monkeypatch.setenv("SSH_AUTH_SOCK", str(address))
            monkeypatch.setenv("HOME", str(sftp_server.folder / "nobody"))
            with pytest.raises(StepFailed, match="does not accept the login"):
                opened(key=None).check()
            add = ["ssh-add", "-q", str(sftp_server.key)]
            subprocess.run(add, check=True, capture_output=True)
            opened(key=None).check()
        finally:
            agent.kill()
            agent.wait()

    def test_through_another_server(
        self, opened: Opened, own_server: SftpServer, sftp_server: SftpServer, tmp_path: Path
    ) -> None:
        both = tmp_path / "known"
        both.write_text(own_server.known_hosts.read_text() + sftp_server.known_hosts.read_text())
        (own_server.folder / "authorized_keys").write_text(
            (sftp_server.folder / "authorized_keys").read_text()
        )
        jump = {"host": "127.0.0.1", "port": own_server.port}
        target = opened(known_hosts=str(both), jump=jump)
        target.put("a", [b"x"])
        assert read(target, "a") == b"x"
        assert "Accepted publickey" in (own_server.folder / "log").read_text()
        stranger = opened(jump=jump)
        with pytest.raises(StepFailed, match="is not known") as caught:
            stranger.check()
        assert f"-p {own_server.port}" in caught.value.remedy
        away = opened(jump={"host": "127.0.0.1", "port": 1}, retry=0.1)
        with pytest.raises(StepFailed, match=r"its jump host .*:1 refuses connections"):
            away.check()

    def test_a_password(self, tmp_path: Path) -> None:
        (tmp_path / "password").write_text("right\n")
        with password_server(tmp_path, "right") as port:
            known = str(tmp_path / "known")
            options = {
                "host": "127.0.0.1", "port": port, "user": "anybody", "known_hosts": known,
                "path": str(tmp_path / "kept"), "retry": 0.2,
                "password": Secret(f"file:{tmp_path / 'password'}"),
            }  # fmt: skip
            target = open_target(TargetSpec("nas", "sftp", options, tmp_path))
            target.put("a", [b"x"], exclusive=True)
            assert read(target, "a") == b"x"
            (tmp_path / "password").write_text("wrong\n")
            wrong = open_target(TargetSpec("nas", "sftp", options, tmp_path))
            with pytest.raises(StepFailed, match="does not accept the login"):
                wrong.check()


class TestFiles:
    def test_a_location_is_a_url(self, opened: Opened) -> None:
        target = opened(host="quay1", port=22, user="quay", path="backups/")
        assert target.location("shop") == "sftp://quay@quay1/~/backups/shop"
        assert opened(host="quay1", user="u", path="/srv").location("") == (
            f"sftp://u@quay1:{target_port(opened)}/srv"
        )

    def test_a_location_has_an_address_of_version_6_in_brackets(self, opened: Opened) -> None:
        target = opened(host="::1", port=2222, user="quay", path="/srv/a")
        assert target.location("shop") == "sftp://quay@[::1]:2222/srv/a/shop"

    def test_files_and_folders_are_private(self, opened: Opened) -> None:
        target = opened()
        target.put("shop/prod/a", [b"x"])
        root = root_of(target)
        found = [root, *root.rglob("*")]
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in found}
        assert modes == {root.name: 0o700, "shop": 0o700, "prod": 0o700, "a": 0o600}

    def test_nothing_is_visible_while_it_is_written(self, opened: Opened) -> None:
        target = opened()
        seen: list[tuple[list[str], list[bool]]] = []

        def chunks() -> Iterator[bytes]:
            yield b"half" * MIB
            there = [one.name.endswith(".partial") for one in root_of(target).iterdir()]
            seen.append((keys(target), there))
            yield b"whole"

        target.put("a", chunks())
        assert seen == [([], [True])]

    def test_put_and_delete_may_meet_in_a_folder(self, opened: Opened) -> None:
        target = opened()
        failures: list[Exception] = []

        def work(own: str) -> None:
            try:
                for _ in range(15):
                    target.put(f"shop/prod/{own}", [b"x"])
                    target.delete(f"shop/prod/{own}")
            except Exception as error:  # noqa: BLE001 - compared below
                failures.append(error)

        threads = [threading.Thread(target=work, args=(own,)) for own in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert keys(target) == []

    def test_a_server_without_extensions(self, tmp_path: Path) -> None:
        refused = "posix-rename,hardlink,fsync,statvfs"
        with running(f"ForceCommand internal-sftp -P {refused}") as server:
            target = opened_at(server, tmp_path)
            target.put("a", [b"old"])
            target.put("a", [b"new"])
            assert read(target, "a") == b"new"
            target.put("b", [b"first"], exclusive=True)
            with pytest.raises(KeyExists):
                target.put("b", [b"second"], exclusive=True)
            assert read(target, "b") == b"first"
            assert target.free() is None
            assert sorted(one.name for one in root_of(target).rglob("*")) == ["a", "b"]

    def test_what_a_killed_put_left_is_swept_when_it_is_old(
        self, opened: Opened, sftp_server: SftpServer
    ) -> None:
        target = opened()
        script = (
            "import sys, time; from pathlib import Path; from runner.secret import Secret\n"
            "from runner.spec.model import TargetSpec\n"
            "from runner.target.sftp import open_target\n"
            "port, path, folder = sys.argv[1:]\n"
            "options = {'host': '127.0.0.1', 'port': int(port), 'path': path,\n"
            "           'key': Secret(f'file:{folder}/user'),\n"
            "           'known_hosts': f'{folder}/known_hosts'}\n"
            "def chunks():\n"
            "    yield b'x' * (1 << 20)\n"
            "    print('written', flush=True); time.sleep(1000)\n"
            "target = open_target(TargetSpec('nas', 'sftp', options, Path()))\n"
            "target.put('shop/prod/a', chunks())\n"
        )
        arguments = [str(sftp_server.port), str(root_of(target)), str(sftp_server.folder)]
        with subprocess.Popen(
            [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"written\n"
            writer.kill()
        assert keys(target) == []
        assert target.sweep("", 3600.0) == []
        (left,) = root_of(target).rglob(".*.partial")
        os.utime(left, (time.time() - 7200, time.time() - 7200))
        assert target.sweep("other", 3600.0) == []
        assert target.sweep("shop", 3600.0) == [f"shop/prod/{left.name}"]
        assert target.folders("") == []
        (root_of(target) / "shop" / "prod").mkdir(parents=True)
        assert target.sweep("shop/prod", 3600.0) == []
        assert target.folders("") == []


class TestFaults:
    def test_a_server_that_dies_while_something_is_written(
        self, own_server: SftpServer, tmp_path: Path
    ) -> None:
        target = opened_at(own_server, tmp_path, retry=0.3)
        target.put("kept", [b"k"])

        def chunks() -> Iterator[bytes]:
            yield b"x" * 8 * MIB
            own_server.end(signal.SIGKILL)
            yield b"x" * 8 * MIB

        with pytest.raises(StepFailed, match=r"broke the connection|refuses connections"):
            target.put("a", chunks())
        own_server.start()
        assert keys(target) == ["kept"]
        assert len(target.sweep("", 0.0)) == 1

    def test_an_upload_goes_on_with_a_server_that_is_back(
        self, own_server: SftpServer, tmp_path: Path
    ) -> None:
        data = os.urandom(12 * MIB)
        target = opened_at(own_server, tmp_path, retry=60.0)

        def chunks() -> Iterator[bytes]:
            yield data[: 6 * MIB]
            own_server.end(signal.SIGKILL)
            threading.Timer(1.0, own_server.start).start()
            yield data[6 * MIB :]

        target.put("a", chunks())
        assert read(target, "a") == data
        assert [one.name for one in root_of(target).iterdir()] == ["a"]

    def test_an_upload_whose_confirmed_part_was_lost_fails(
        self, own_server: SftpServer, tmp_path: Path
    ) -> None:
        target = opened_at(own_server, tmp_path, retry=60.0)

        def chunks() -> Iterator[bytes]:
            for _ in range(8):
                yield b"x" * MIB
            own_server.end(signal.SIGKILL)
            (partial,) = root_of(target).glob(".*.partial")
            os.truncate(partial, 0)
            own_server.start()
            yield b"x" * MIB

        with pytest.raises(StepFailed, match="lost what it had confirmed"):
            target.put("a", chunks())
        assert keys(target) == []

    @pytest.mark.parametrize("part", range(1, 10))
    def test_a_connection_that_is_cut_at_a_tenth_part(
        self, sftp_server: SftpServer, tmp_path: Path, part: int
    ) -> None:
        data = os.urandom(2 * MIB)
        with cable_to(sftp_server.port) as cable:
            known = tmp_path / "known"
            host_key = (sftp_server.folder / "host.pub").read_text()
            known.write_text(f"[127.0.0.1]:{cable.port} {host_key}")
            through = {"port": cable.port, "known_hosts": str(known), "retry": 10.0}
            target = opened_at(sftp_server, tmp_path, **through)
            cable.cut_after = part * len(data) // 10
            target.put("a", [data])
            assert cable.cut_after is None, "it was cut"
            cable.cut_after = part * len(data) // 10
            assert read(target, "a") == data
            assert cable.cut_after is None, "it was cut"
            assert [one.name for one in root_of(target).iterdir()] == ["a"]

    def test_a_server_that_is_back_goes_on_serving(
        self, own_server: SftpServer, tmp_path: Path
    ) -> None:
        data = os.urandom(8 * MIB)
        target = opened_at(own_server, tmp_path, retry=30.0)
        target.put("a", [data])
        reading = target.get("a")
        first = next(reading)
        own_server.end(signal.SIGKILL)
        threading.Timer(0.5, own_server.start).start()
        assert first + b"".join(reading) == data
        own_server.end(signal.SIGKILL)
        own_server.start()
        assert keys(target) == ["a"]

    def test_a_download_of_what_was_replaced_meanwhile_fails(
        self, own_server: SftpServer, tmp_path: Path
    ) -> None:
        target = opened_at(own_server, tmp_path)
        target.put("a", [b"1" * 8 * MIB])
        reading = target.get("a")
        next(reading)
        own_server.end(signal.SIGKILL)
        (root_of(target) / "a").write_bytes(b"2" * (8 * MIB + 1))
        own_server.start()
        with pytest.raises(StepFailed, match="changed while it was read"):
            list(reading)

    def test_a_server_that_hangs(self, own_server: SftpServer, tmp_path: Path) -> None:
        target = opened_at(own_server, tmp_path, timeout=1.0, retry=0.3)
        target.put("a", [b"x"])
        assert own_server.process is not None
        stopped = _children(own_server.process.pid)
        for process in stopped:
            os.kill(process, signal.SIGSTOP)
        with pytest.raises(StepFailed, match=r"did not answer in time|broke the connection"):
            list(target.entries("prod"))

    def test_a_server_that_takes_connections_and_hangs_is_given_up_after_the_timeout(
        self, own_server: SftpServer, tmp_path: Path
    ) -> None:
        assert own_server.process is not None
        os.kill(own_server.process.pid, signal.SIGSTOP)
        target = opened_at(own_server, tmp_path, timeout=1.0, retry=0.3)
        began = time.monotonic()
        with pytest.raises(StepFailed, match="did not answer in time"):
            target.folders("")
        assert time.monotonic() - began < sftp_session.CONNECT_SECONDS

    def test_the_interpreter_ends_while_the_server_hangs(self, own_server: SftpServer) -> None:
        script = (
            "import contextlib, os, signal, sys, threading; from pathlib import Path\n"
            "from runner.secret import Secret; from runner.spec.model import TargetSpec\n"
            "from runner.target.sftp import open_target\n"
            "port, folder = sys.argv[1:]\n"
            "options = {'host': '127.0.0.1', 'port': int(port), 'path': f'{folder}/data/x',\n"
            "           'key': Secret(f'file:{folder}/user'),\n"
            "           'known_hosts': f'{folder}/known_hosts'}\n"
            "target = open_target(TargetSpec('nas', 'sftp', options, Path()))\n"
            "target.check(); target.put('a', [b'x'])\n"
            "print('open', flush=True); sys.stdin.readline()\n"
            "def quietly(ask, *words):\n"
            "    with contextlib.suppress(Exception): ask(*words)\n"
            "threading.Thread(target=quietly, args=(target.check,), daemon=True).start()\n"
            "threading.Thread(target=quietly, args=(target.folders, ''), daemon=True).start()\n"
            "print('asked', flush=True)\n"
        )
        arguments = [str(own_server.port), str(own_server.folder)]
        with subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == b"open\n"
            assert own_server.process is not None
            for child in _children(own_server.process.pid):
                os.kill(child, signal.SIGSTOP)
            process.stdin.write(b"\n")
            process.stdin.close()
            assert process.wait(30) == 0
            assert process.stderr.read() == b""


class TestLock:
    def claim(self, target: SftpTarget, note: str) -> Path:
        folder = root_of(target) / "shop/.prune.lock"
        folder.mkdir(parents=True)
        (folder / ".other.lock").write_text(note)
        return folder / ".other.lock"

    def test_a_claim_of_another_host_is_believed_until_it_is_old(self, opened: Opened) -> None:
        target = opened()
        file = self.claim(target, '{"owner": "run 7 on quay2", "held": true}')
        with pytest.raises(Locked, match="run 7 on quay2"), target.lock("shop/.prune", "me"):
            raise AssertionError
        assert keys(target) == []
        assert target.folders("") == ["shop"]
        before = time.time() - lease.LEASE_SECONDS - 5
        os.utime(file, (before, before))
        with target.lock("shop/.prune", "me"):
            pass
        assert target.folders("") == []

    def test_two_hosts_never_hold_it_at_once(self, opened: Opened) -> None:
        target = opened()
        held: list[int] = []
        most: list[int] = []

        def work(number: int) -> None:
            with target._leases.hold("shop/.prune", f"host {number}", patience=60.0):
                held.append(number)
                most.append(len(held))
                time.sleep(0.02)
                held.remove(number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == [1, 1, 1, 1]
        assert keys(target) == []

    def test_it_is_held_on_a_full_disk(self, opened: Opened) -> None:
        target = opened()
        root = root_of(target)
        other = opened(path=str(root))
        with small_disk(root, "256k"):
            target.put("shop/a", [b"x"])
            fill(root)
            with pytest.raises(StepFailed, match="shop/b was not written"):
                target.put("shop/b", [b"x" * MIB])
            with target.lock("shop/.prune", "me"):
                with (
                    pytest.raises(Locked, match="is locked by another run"),
                    other.lock("shop/.prune", "another"),
                ):
                    raise AssertionError
                target.delete("shop/a")
            assert [one.name for one in root.iterdir()] == ["ballast"]


@pytest.mark.slow
def test_an_ssh_server_alone_brings_everything_back(
    sftp_server: SftpServer, tmp_path: Path
) -> None:
    options = sftp_server.options()
    # A key that is in no file goes through an agent in the runbook.
    secret = f"command:cat {shlex.quote(str(sftp_server.key))}"
    brings_everything_back(
        tmp_path,
        f"{{type: sftp, host: 127.0.0.1, port: {sftp_server.port}, user: {getpass.getuser()}, "
        f"path: '{options['path']}', key: {{secret: '{secret}'}}, "
        f"known_hosts: {sftp_server.known_hosts}}}",
    )


def make_key(path: Path) -> Path:
    """A new private key, with its public one beside it."""
    call = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
    subprocess.run(call, check=True)
    return path


def target_port(opened: Opened) -> int:
    """The port of the server that `opened` opens."""
    return opened()._address.server.port


class password_server:  # noqa: N801 - used as a function
    """Another make of SSH server, which takes a password; in `folder`, while the block runs."""

    def __init__(self, folder: Path, password: str) -> None:
        self.folder = folder
        self.password = password
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.connections: list[asyncssh.SSHServerConnection] = []

    def __enter__(self) -> int:
        self.thread.start()
        return asyncio.run_coroutine_threadsafe(self.listen(), self.loop).result()

    def __exit__(self, *_: object) -> None:
        async def close() -> None:
            self.server.close()
            for connection in self.connections:  # it would wait for those that are still open
                connection.abort()
            await self.server.wait_closed()

        asyncio.run_coroutine_threadsafe(close(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def listen(self) -> int:
        import asyncssh

        password = self.password
        connections = self.connections

        class Server(asyncssh.SSHServer):
            def connection_made(self, connection: asyncssh.SSHServerConnection) -> None:
                connections.append(connection)

            def password_auth_supported(self) -> bool:
                return True

            def validate_password(self, username: str, given: str) -> bool:
                return given == password

        key = asyncssh.generate_private_key("ssh-ed25519")
        self.server = await asyncssh.listen(
            "127.0.0.1", 0, server_host_keys=[key], server_factory=Server, sftp_factory=True
        )
        port = int(self.server.get_port())
        public = key.export_public_key().decode()
        (self.folder / "known").write_text(f"[127.0.0.1]:{port} {public}")
        return port
