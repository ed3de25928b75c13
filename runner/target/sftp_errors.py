"""Errors of SSH and SFTP in words: what is wrong, and what a person does about it."""

from __future__ import annotations

import shlex
import socket

from runner.errors import StepFailed
from runner.target.extra import install_line
from runner.target.sftp_address import Address, Host

AT_JUMP = "It came from the jump host."  # noted in what could not be reached

_NETWORK = "Is the server running, and is the network there? Look at `host` and `port`."
_LOGIN = "Look at `user`, `key` and `password`; the server's authorized_keys must have the key."
_ROOM = "Free some space there, or prune."
_RIGHTS = "Give that user read and write permission there."


def lost() -> tuple[type[BaseException], ...]:
    """What says that an open connection is gone."""
    import asyncssh

    return (
        asyncssh.ConnectionLost,
        asyncssh.SFTPConnectionLost,
        asyncssh.SFTPNoConnection,
        ConnectionResetError,
        BrokenPipeError,
    )


def out_of_reach() -> tuple[type[BaseException], ...]:
    """What may be over in a moment, when a connection is made."""
    import asyncssh

    return (OSError, TimeoutError, asyncssh.ConnectionLost, asyncssh.ChannelOpenError)


def no_room() -> tuple[type[BaseException], ...]:
    """What a full disk may look like: most servers say no more than that it failed."""
    import asyncssh

    return (
        asyncssh.SFTPFailure,
        asyncssh.SFTPNoSpaceOnFilesystem,
        asyncssh.SFTPQuotaExceeded,
    )


def no_sftp() -> tuple[type[BaseException], ...]:
    """What says, right after the login, that there is something else than SFTP."""
    import asyncssh

    return (asyncssh.SFTPConnectionLost, asyncssh.SFTPBadMessage)


def speaks_no_sftp(address: Address) -> StepFailed:
    """The error for a server that takes the login, and then has no such session."""
    server = address.server
    host = f"[{server.host}]" if ":" in server.host else server.host
    return StepFailed(
        f"Target {address.name} at {server} takes the login, and then speaks no SFTP.",
        remedy=f"`sftp -P {server.port} {server.user}@{host}` must work too. Nothing may be "
        "printed at login there; what the server's log says of the session tells the rest.",
    )


def require_library(name: str) -> None:
    """Raise StepFailed unless what speaks SSH is installed."""
    try:
        import asyncssh  # noqa: F401
    except ImportError:
        raise StepFailed(
            f"Target {name} needs a library that is not installed here.",
            remedy=install_line("sftp"),
        ) from None


def unknown_host(address: Address, host: Host, fingerprint: str, *, expected: bool) -> StepFailed:
    """The error for a host whose key is not the one that is known, or is not known at all."""
    shown = f" It shows the key {fingerprint}." if fingerprint else ""
    file = shlex.quote(str(address.known_hosts[0]))
    scan = f"ssh-keyscan -p {host.port} {shlex.quote(host.host)}"
    if address.jump is not None and host != address.jump:
        scan = f"ssh {address.jump.user}@{address.jump.host} -p {address.jump.port} {scan}"
    entry = host.host if host.port == 22 else f"[{host.host}]:{host.port}"
    if expected:
        return StepFailed(
            f"Target {address.name}: {host.host} shows another key than the known one.{shown}",
            remedy="Somebody stands between, or the server was set up anew. Ask who runs it. If "
            f"that is so: ssh-keygen -R {shlex.quote(entry)} -f {file}; {scan} >> {file}",
        )
    return StepFailed(
        f"Target {address.name}: the key of {host.host} is not known.{shown}",
        remedy=f"If the server's own console shows that key too: {scan} >> {file}",
    )


def explained(error: BaseException, address: Address, what: str) -> StepFailed | None:
    """The error for a person; None where `error` is none of the network or the server."""
    reason = _reason(error)
    if reason is None:
        return None
    where = f"Target {address.name} at {address.server}"
    if AT_JUMP in getattr(error, "__notes__", ()):
        where += f": its jump host {address.jump}"
    return StepFailed(f"{where} {reason[0]}: {what}.", remedy=reason[1])


def _reason(error: BaseException) -> tuple[str, str] | None:
    import asyncssh

    known: list[tuple[type[BaseException] | tuple[type[BaseException], ...], tuple[str, str]]] = [
        (asyncssh.PermissionDenied, ("does not accept the login", _LOGIN)),
        (ConnectionRefusedError, ("refuses connections", _NETWORK)),
        (socket.gaierror, ("cannot be found: its name is not known", _NETWORK)),
        (TimeoutError, ("did not answer in time", f"{_NETWORK} A longer `timeout` may help.")),
        (lost(), ("broke the connection off", _NETWORK)),
        (asyncssh.ChannelOpenError, ("offers no SFTP, or no way through", _LOGIN)),
        (asyncssh.SFTPPermissionDenied, ("refuses this user", _RIGHTS)),
        (asyncssh.SFTPWriteProtect, ("is read-only", "Mount it for writing there.")),
        (asyncssh.SFTPNoSpaceOnFilesystem, ("is full", _ROOM)),
        (asyncssh.SFTPQuotaExceeded, ("has no quota left", _ROOM)),
        (asyncssh.SFTPNoSuchFile, ("lacks a file or folder", "Look at `path`.")),
        (asyncssh.SFTPFailure, ("fails without a reason", "Is its disk full? Look there.")),
    ]
    for classes, reason in known:
        if isinstance(error, classes):
            return reason
    if isinstance(error, asyncssh.Error | OSError):
        return f"fails: {error}", ""
    return None
