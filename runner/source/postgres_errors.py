"""What PostgreSQL and its programs say, as errors that tell what to do."""

from __future__ import annotations

import re

from runner.errors import StepFailed
from runner.process import LOCAL_WORDS

# A command that failed is quoted whole, and these may hold passwords.
_TELLING = re.compile(
    r"((?:CREATE|ALTER) (?:USER MAPPING|SUBSCRIPTION|SERVER|ROLE)\b"
    r".*?(?:OPTIONS|CONNECTION|PASSWORD))\b.*",
    re.DOTALL,
)

# How libpq goes on where it reached nobody: the remedy says the same.
_GUESS = "Is the server running"

# By SQLSTATE, or by words where there is none, in the order in which they are looked for:
# what it means, and the remedy.
_KNOWN: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        # Docker's words where it knows no `compose`: it takes what follows for its own.
        (
            "unknown shorthand flag: 'T'",
            "'compose' is not a docker command",
            "unknown command: docker",
        ),
        "Docker lacks its plugin: apt-get install docker-compose-plugin (or docker-compose-v2).",
    ),
    (
        ("28P01", "password authentication failed", "no password supplied"),
        "Check `user` and `password`; pg_hba.conf on the server says how a role must log in.",
    ),
    (
        ("Peer authentication failed",),
        "Run as the system user of that name, or by `exec: sudo -u postgres`, or give a password.",
    ),
    (
        ("28000", "pg_hba.conf", "authentication failed"),
        "The server does not let this role in from here: see pg_hba.conf there, and `sslmode`.",
    ),
    (
        ("3D000", "FATAL:  database"),
        "Check `dbname`: `psql -l` lists the databases.",
    ),
    (
        ("row-level security", "row security"),
        "A backup must see every row: use a role with BYPASSRLS, or leave the table out.",
    ),
    (
        ("42501", "permission denied", "must be superuser", "must be owner"),
        "Grant what it lacks (from PostgreSQL 14: pg_read_all_data), or leave out the rest.",
    ),
    (
        ("55P03", "lock timeout"),
        "Somebody holds a lock that excludes readers (see pg_locks): try again, or give more time.",
    ),
    (
        ("max_locks_per_transaction",),
        "Raise max_locks_per_transaction on the server, and restart it.",
    ),
    (
        ("too many connections for",),
        "It has a CONNECTION LIMIT: a backup or a restore opens up to five connections at once.",
    ),
    (
        ("53300", "too many clients", "remaining connection slots"),
        "The server has no free connection: raise max_connections, or end idle ones.",
    ),
    (
        ("53100", "No space left on device", "Check free disk space"),
        "A disk is full: make room, on the server if the words are its own.",
    ),
    (
        ("40001", "conflict with recovery"),
        "A standby cancelled it: set hot_standby_feedback or max_standby_streaming_delay there.",
    ),
    (
        ("XX001", "XX002", "invalid page in block"),
        "The server's own data is damaged. Keep every older snapshot, and look at its log.",
    ),
    (
        ("57014", "statement timeout"),
        "Somebody cancelled it, or a timeout did.",
    ),
    (
        ("server version mismatch",),
        "Install client programs that are as new as the server, and name their folder with `bin`.",
    ),
    (
        ("could not translate host name", "Name or service not known", "failed to resolve host"),
        "Check `host`. A name that only a container network knows: use `exec`.",
    ),
    # Before what may be said of another address of the same name.
    (
        ("certificate", "SSL"),
        "Check `sslmode` and `sslrootcert`, and what the server offers.",
    ),
    (
        ("Connection refused", "No such file or directory", "timeout expired", "No route to host"),
        "Is the server running there, and are `host` and `port` right?",
    ),
    (
        (
            *("57P01", "57P02", "57P03", "08006", "server closed the connection"),
            *("the connection is lost", "terminating connection", "connection to server was lost"),
            *("the database system is starting", "the database system is in recovery"),
            *("the database system is not yet", "the database system is shutting down"),
        ),
        "The server ended the connection: look at its log, and try again once it runs.",
    ),
)


# What says something of the server and of the way to it, and nothing of what is loaded: classes of
# SQLSTATE (connection, resources, intervention, system), and words where there is none.
_LOCAL_STATES = ("08", "53", "57", "58")
_LOCAL_WORDS = (
    *LOCAL_WORDS,
    *("server closed the connection", "the connection is lost", "terminating connection"),
    *("connection to server", "connection failed", "out of shared memory"),
    *("extension control file", "max_locks_per_transaction"),
)


class ServerSaid(StepFailed):
    """A server refused something. `state` is its SQLSTATE, empty where it gave none."""

    def __init__(self, message: str, *, remedy: str = "", state: str = "") -> None:
        local = state[:2] in _LOCAL_STATES or any(words in message for words in _LOCAL_WORDS)
        super().__init__(message, remedy=remedy, local=local)
        self.state = state


def said(doing: str, words: str, state: str = "") -> ServerSaid:
    """The error for what a server, or a client program, said while `doing` was tried.

    `doing` is a clause that fits before "failed": "Asking database quay at db:5432".
    """
    words = _TELLING.sub(r"\1 …", words)
    lines = [line.strip() for line in words.splitlines()]
    text = " ".join(line for line in lines if line and not line.startswith(_GUESS))
    for prefix in ("connection failed: ", "ERROR:", "FATAL:"):
        text = text.removeprefix(prefix).strip()
    message = f"{doing} failed: {text[:1000] or 'it said nothing'}"
    return ServerSaid(
        message if message.endswith(".") else f"{message}.",
        remedy=_remedy(words, state),
        state=state,
    )


def _remedy(words: str, state: str) -> str:
    if "row-level security" in words or "Peer authentication" in words:
        state = ""  # it is that of every missing right, of every login
    for signs, remedy in _KNOWN:
        if state and state in signs:
            return remedy
    for signs, remedy in _KNOWN:
        if any(sign in words for sign in signs if not _is_state(sign)):
            return remedy
    return ""


def _is_state(sign: str) -> bool:
    return len(sign) == 5 and sign.isalnum() and sign.isupper()
