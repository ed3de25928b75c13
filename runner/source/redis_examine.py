"""What `doctor` says of a Redis source: the server, what this user may do, what is installed here
for proofs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner.errors import HoldfastError
from runner.source import Examined, redis_live, redis_scratch
from runner.source.redis_address import Address
from runner.source.redis_choose import Chosen, chosen_of, named
from runner.source.redis_connect import RawConnection, Rejected, connect

# What a snapshot, and a restore, ask of the server; and what becomes of them without that.
_CAPTURE = {
    "SYNC": "snapshots are taken key by key, and are not of one instant unless `pause` is set",
    "CONFIG": "the server's wait before a snapshot (repl-diskless-sync-delay) cannot be left out",
}


def examine(server: Address, options: Mapping[str, Any]) -> Iterator[Examined]:
    """Look at the server, and at what this machine has to prove its snapshots with."""
    chosen = chosen_of(options)
    try:
        with connect(server) as connection:
            version = redis_live.version(connection)
            yield Examined("server", "ok", f"{version}: {server.url}")
            yield from _others(connection, server.database, chosen)
            if options.get("method") != "keys":
                yield from _rights(connection, _CAPTURE)
            yield from _rights(connection, _restoring(chosen))
    except HoldfastError as error:
        yield Examined("server", "FAIL", f"{error.message} {error.remedy}".strip())
    yield scratch()


def _restoring(chosen: Chosen) -> dict[str, str]:
    empties = "FLUSHALL" if chosen is None else "FLUSHDB"
    return {
        "RESTORE": "nothing can be restored to it",
        empties: "`--existing flush` cannot be used",
    }


def _others(connection: RawConnection, asked: int, chosen: Chosen) -> Iterator[Examined]:
    """What lies beside the databases that the spec names, and whose it may be."""
    there = redis_live.count_keys(connection).keys()
    if chosen is not None:
        left = named(there - chosen) if there - chosen else "no other"
        empty = f"; no key in {named(chosen - there)}" if chosen - there else ""
        said = f"{named(chosen)} alone; {left} left alone{empty}"
        yield Examined("databases", "warn" if empty else "ok", said)
    elif others := sorted(there - {asked}):
        yield Examined(
            "databases",
            "warn",
            f"{', '.join(map(str, others))} hold keys beside {asked}: all databases are backed up, "
            "restored and put back together, also those of other projects; "
            f"`databases: [{asked}]` is this one alone",
        )


def scratch() -> Examined:
    """Whether what was stored can be loaded here."""
    found = redis_scratch.programs()
    if found:
        return Examined("scratch server", "ok", ", ".join(found))
    return Examined(
        "scratch server",
        "warn",
        "neither redis-server nor valkey-server is installed, so no restore is proven and nothing "
        f"is drilled: apt-get install {redis_scratch.PACKAGE} (it need not run)",
    )


def _rights(connection: RawConnection, commands: Mapping[str, str]) -> Iterator[Examined]:
    for command, without in commands.items():
        if _known(connection, command) and _allowed(connection, command):
            continue
        yield Examined(command, "warn", f"not allowed to this user, or renamed away: {without}")


def _known(connection: RawConnection, command: str) -> bool:
    try:
        (found,) = connection.call("COMMAND", "INFO", command)
    except Rejected:
        return True
    return bool(found)


def _allowed(connection: RawConnection, command: str) -> bool:
    """As the server itself says, from 7.0 on; True where it does not tell."""
    try:
        user = connection.call("ACL", "WHOAMI")
        arguments = {"CONFIG": ("SET", "a", "b"), "RESTORE": ("key", "0", "value")}
        said = connection.call("ACL", "DRYRUN", user, command, *arguments.get(command, ()))
    except Rejected:
        return True
    return bool(said == b"OK")
