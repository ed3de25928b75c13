"""What a running Redis server tells of itself: what it holds, who uses it, answers to checks."""

from __future__ import annotations

import hashlib
import re
import shlex
from typing import Any

from runner.errors import StepFailed
from runner.source import Refused
from runner.source.redis_choose import Chosen, among
from runner.source.redis_connect import RawConnection, Rejected

# Commands of people and of monitoring: a client that asks nothing else does not use the content.
LOOKING = ("info", "ping", "client", "config", "slowlog", "command", "hello", "auth", "NULL",
           "memory", "latency", "role", "dbsize", "acl", "replconf", "sync", "psync")  # fmt: skip

# What an error of a command says of the content, and not of the server.
_SAYS_NO = ("WRONGTYPE", "ERR no such key", "ERR index out of range")


def count_keys(connection: RawConnection) -> dict[int, int]:
    """The keys of each database that has any."""
    text = connection.call("INFO", "keyspace").decode()
    found = re.findall(r"^db(\d+):keys=(\d+)", text, re.MULTILINE)
    return {int(database): int(keys) for database, keys in found}


def evicted(connection: RawConnection) -> int | None:
    """How many keys it ever gave up for want of memory; None where it may not be asked."""
    try:
        found = re.search(rb"^evicted_keys:(\d+)", connection.call("INFO", "stats"), re.MULTILINE)
    except Rejected:
        return None
    return int(found[1]) if found else None


def is_empty(connection: RawConnection, chosen: Chosen = None) -> bool:
    """Whether it holds no keys in these databases; of the whole server, no functions either."""
    if among(count_keys(connection), chosen):
        return False
    return chosen is not None or dump_functions(connection) is None


def dump_functions(connection: RawConnection) -> bytes | None:
    """All functions as the server itself writes them; None where there are none."""
    try:
        if not connection.call("FUNCTION", "LIST"):
            return None
        dumped: bytes = connection.call("FUNCTION", "DUMP")
    except Rejected:  # before 7.0 there are none, and a user without the right leaves them alone
        return None
    return dumped


def run_id(connection: RawConnection) -> str:
    """What tells this start of this server from every other."""
    found = re.search(r"^run_id:(\w+)", connection.call("INFO", "server").decode(), re.MULTILINE)
    return found[1] if found else connection.where


def changed_mark(connection: RawConnection) -> str | None:
    """What differs after every change; None before 7.0, which counts its saves not."""
    found = dict(
        line.split(":", 1)
        for line in connection.call("INFO", "persistence").decode().splitlines()
        if ":" in line
    )
    names = ("rdb_saves", "rdb_last_save_time", "rdb_changes_since_last_save")
    if not all(name in found for name in names):
        return None
    return ":".join([run_id(connection), *(found[name] for name in names), _users(connection)])


def _users(connection: RawConnection) -> str:
    """What differs when a user does: the server counts no such change."""
    try:
        listed = connection.call("ACL", "LIST")
    except Rejected:
        return ""
    return hashlib.sha256(b"\n".join(listed)).hexdigest()


def version(connection: RawConnection) -> str:
    """Its name and version: `Redis 7.0.15`, `Valkey 8.1.8`."""
    text = connection.call("INFO", "server").decode()
    for name in ("valkey", "redis"):
        if found := re.search(rf"^{name}_version:(\S+)", text, re.MULTILINE):
            return f"{name.capitalize()} {found[1]}"
    return "Redis"


def users(connection: RawConnection, chosen: Chosen = None) -> list[str]:
    """The clients that use these databases: their addresses, and names where they have any."""
    try:
        own = connection.call("CLIENT", "ID")
        lines = connection.call("CLIENT", "LIST", "TYPE", "normal").decode(errors="replace")
    except Rejected:  # not for this user to know
        return []
    found = []
    for line in lines.splitlines():
        words = dict(one.partition("=")[::2] for one in line.split(" "))
        if words.get("id") == str(own) or words.get("cmd", "").split("|")[0] in LOOKING:
            continue
        if chosen is not None and int(words.get("db", 0)) not in chosen:
            continue
        name = f" ({words['name']})" if words.get("name") else ""
        found.append(f"{words.get('addr', 'a client')}{name}")
    return found


def ask(connection: RawConnection, question: str) -> Any:
    """What a command answers, if it is one that only reads: its first value, as text or number.

    Raises Refused when the content says no, StepFailed when it could not be asked.
    """
    split = words(question)
    _require_reading(connection, split)
    try:
        reply = connection.call(*split)
    except Rejected as error:
        if error.text.startswith(_SAYS_NO):
            raise Refused(error.text) from error
        raise
    while isinstance(reply, list):
        reply = reply[0] if reply else None
    return reply.decode(errors="replace") if isinstance(reply, bytes) else reply


def words(question: str) -> list[str]:
    """A Redis command as its words. Raises StepFailed for what is none."""
    try:
        found = shlex.split(question)
    except ValueError as error:
        raise StepFailed(f"{question!r} is no Redis command: {error}.") from error
    if not found:
        raise StepFailed("No Redis command is asked.")
    return found


def _require_reading(connection: RawConnection, words: list[str]) -> None:
    """Raise StepFailed unless the server says that the command only reads."""
    if words[0].upper() in _ALSO_READ:
        return
    (found,) = connection.call("COMMAND", "INFO", words[0])
    flags = {one.decode().lstrip("+") for one in found[2]} if found else set()
    if not found:
        raise StepFailed(f"The Redis server knows no command {words[0]}.")
    if "readonly" not in flags or "blocking" in flags:
        raise StepFailed(
            f"{words[0].upper()} is no command that only reads, and a check must change nothing.",
            remedy="Ask with a command like DBSIZE, EXISTS, GET or SCARD.",
        )


_ALSO_READ = ("PING", "INFO", "TIME", "ECHO", "LASTSAVE")
