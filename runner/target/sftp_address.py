"""Where an SFTP server is, who logs in there, and how it is known: what a spec declares."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import UsageError
from runner.secret import Secret
from runner.spec.model import TargetSpec

if TYPE_CHECKING:
    import asyncssh

DEFAULT_KNOWN_HOSTS = ("~/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts")

# Fast in hardware, where the default is not; both sides still agree on what they know.
CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"


@dataclass(frozen=True)
class Host:
    """A server to log in to."""

    host: str
    port: int
    user: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}" + (f":{self.port}" if self.port != 22 else "")


@dataclass(frozen=True)
class Address:
    """One server, the way to it, and a folder there."""

    name: str  # of the target
    server: Host
    jump: Host | None  # logged in to first, with the same keys
    root: str  # without a slash at its end; relative ones start at the user's home
    key: Secret | None
    passphrase: Secret | None
    password: Secret | None
    known_hosts: tuple[Path, ...]

    def url(self, path: str) -> str:
        """The URL of a path there."""
        below = path if path.startswith("/") else f"/~/{path}".removesuffix("/.")
        return f"sftp://{self.server}{below}"

    def credentials(self) -> dict[str, Any]:
        """What the SSH library logs in with. Raises UsageError when it cannot be had.

        Without a key and a password, the agent and the user's own keys are asked.
        """
        found: dict[str, Any] = {}
        if self.password is not None:
            found["password"] = self.password.reveal()
        if self.key is not None:
            found["client_keys"] = [self._private_key()]
            found["agent_path"] = None
        elif self.password is not None:
            found |= {"client_keys": None, "agent_path": None}
        return found

    def _private_key(self) -> asyncssh.SSHKey:
        import asyncssh

        assert self.key is not None
        passphrase = None if self.passphrase is None else self.passphrase.reveal()
        try:
            # The end of the last line was taken off with the secret's.
            return asyncssh.import_private_key(self.key.reveal() + "\n", passphrase)
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
            raise UsageError(
                f"Target {self.name}: its key ({self.key}) cannot be used: {error}.",
                remedy="Declare a private key, and its `passphrase` if it has one.",
            ) from None

    def known(self) -> asyncssh.SSHKnownHosts:
        """The hosts whose keys are known."""
        import asyncssh

        files = [str(path) for path in self.known_hosts if path.is_file()]
        try:
            return asyncssh.read_known_hosts(files) if files else asyncssh.import_known_hosts("")
        except (OSError, ValueError) as error:
            raise UsageError(
                f"Target {self.name}: {', '.join(files)} cannot be read: {error}.",
                remedy="Look at known_hosts of the target.",
            ) from None


def address_of(spec: TargetSpec) -> Address:
    """The address that a spec declares."""
    options = spec.options
    user = options.get("user") or getpass.getuser()
    server = Host(options["host"], options.get("port", 22), user)
    via = options.get("jump")
    jump = None if via is None else Host(via["host"], via.get("port", 22), via.get("user", user))
    declared = options.get("known_hosts")
    files = DEFAULT_KNOWN_HOSTS if declared is None else (declared,)
    root = options["path"].removeprefix("~/").rstrip("/")
    return Address(
        name=spec.name,
        server=server,
        jump=jump,
        root=root or ("/" if options["path"].startswith("/") else "."),
        key=options.get("key"),
        passphrase=options.get("passphrase"),
        password=options.get("password"),
        known_hosts=tuple(spec.folder / Path(one).expanduser() for one in files),
    )
