"""Doctor: can this machine do what the spec asks; what is missing, and how to get it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from runner.errors import HoldfastError, SpecError, user_name
from runner.execute.session import Session
from runner.process import run
from runner.prove.command import isolation
from runner.registry import open_source
from runner.report.outcome import Outcome
from runner.report.target_words import answer_words, holding_words, loss_words
from runner.report.targets import examinations
from runner.source import Examined
from runner.spec.units import format_duration, format_size

# What needs each program: a source's type, or what a person types by RESTORE.md.
PROGRAMS = {
    "git": ("git", "a git source", ("git",)),
    "tar": ("tar", "a files source", ("files",)),
    "bash": ("bash", "commands of the spec", ()),
    "sha256sum": ("coreutils", "RESTORE.md", ()),
    "zstd": ("zstd", "RESTORE.md, where artifacts are compressed with zstd", ()),
    "age": ("age", "RESTORE.md, where artifacts are encrypted", ()),
    "sqlite3": ("sqlite3", "looking at a restored database by hand", ()),
}

# https://sqlite.org/wal.html: a WAL reset could corrupt a database; fixed in 3.51.3.
SQLITE_FIXED = (3, 51, 3)

MOST_SKEW_SECONDS = 60.0


def examine(session: Session) -> Outcome:
    """The outcome of `doctor`; exit 4 when something that the spec needs does not work."""
    targets = examinations(session)
    found = [
        *_python(),
        *_programs(session),
        *_state(session),
        *_sources(session),
        *(_target(row, session) for row in targets),
        *_identity(session),
        *_signing(session),
    ]
    failed = [one for one in found if one.verdict == "FAIL"]
    error = None
    if failed:
        error = {"kind": "failed", "message": f"{failed[0].what}: {failed[0].found}"}
    data: dict[str, Any] = {"examined": [vars(one) for one in found], "targets": targets}
    return Outcome("doctor", data, 4 if failed else 0, error)


def _python() -> Iterator[Examined]:
    yield Examined("python", "ok", sys.version.split()[0])
    version = sqlite3.sqlite_version_info
    sound = version >= SQLITE_FIXED
    words = sqlite3.sqlite_version + ("" if sound else ": has the WAL-reset bug fixed in 3.51.3")
    yield Examined("sqlite library", "ok" if sound else "warn", words)
    how = "commands in drills run without a network" if isolation() == "network" else (
        "the kernel allows no network namespace: commands in drills see the network"
    )  # fmt: skip
    yield Examined("isolation", "ok" if isolation() == "network" else "warn", how)


def _programs(session: Session) -> Iterator[Examined]:
    types = {one.type for one in session.spec.sources.values()}
    for name, (package, purpose, needed_by) in PROGRAMS.items():
        if shutil.which(name) is None:
            verdict = "FAIL" if types & set(needed_by) else "warn"
            yield Examined(name, verdict, f"missing, for {purpose}: apt-get install {package}")
            continue
        yield Examined(name, "ok", _version(name))


def _version(name: str) -> str:
    try:
        words = run([name, "--version"], timeout=10).stdout.decode(errors="replace")
    except HoldfastError as error:
        return error.message
    return words.strip().splitlines()[0] if words.strip() else "present"


def _state(session: Session) -> Iterator[Examined]:
    from runner.durable import make_folder

    state = session.spec.state
    try:
        make_folder(state)
        probe = state / ".doctor"
        probe.touch()
        probe.unlink()
    except OSError as error:
        yield Examined("state folder", "FAIL", f"{state} cannot be written: {error.strerror}")
        return
    words = f"{state}, {format_size(shutil.disk_usage(state).free)} free"
    owner, me = state.stat().st_uid, os.geteuid()
    if owner == me:
        yield Examined("state folder", "ok", words)
        return
    theirs, mine = user_name(owner), user_name(me)
    other = f"it belongs to {theirs}: what {mine} writes there, {theirs} cannot read"
    yield Examined("state folder", "warn", f"{words}; {other}. Run Holdfast as {theirs}")


def _sources(session: Session) -> Iterator[Examined]:
    for name, one in session.spec.sources.items():
        try:
            source = open_source(one)
        except SpecError as error:  # it waits for a variable, and the next one may, too
            yield Examined(f"source {name}", "FAIL", error.message)
            continue
        there, examined = source.exists(), list(source.examine())
        # Of a server that is down nobody knows what it holds.
        down = any(one.what == "server" and one.verdict == "FAIL" for one in examined)
        lack = "its server cannot be asked" if down else "nothing to back up was found there"
        words = source.describe() + ("" if there else f": {lack}")
        yield Examined(f"source {name}", "ok" if there else "FAIL", words)
        yield from examined


def _target(row: Mapping[str, Any], session: Session) -> Examined:
    what = f"target {row['target']}"
    if not row["reachable"]:
        return Examined(what, "FAIL", row["error"])
    words = [session.targets[row["target"]].location(""), *answer_words(row)]
    slow = row["clock_skew"] > MOST_SKEW_SECONDS
    if slow:
        words.append(f"its clock differs by {format_duration(round(row['clock_skew']))}")
    if row["snapshots"] is not None:
        words += holding_words(row)
    lost = loss_words(row)
    if lost is not None:
        words.append(f"if it burned, {lost}")
    return Examined(what, "warn" if slow else "ok", "; ".join(words))


def _signing(session: Session) -> Iterator[Examined]:
    from runner.store.signature import Signers, sign

    signing = session.spec.signing
    if signing is None:
        return
    try:
        signature = None if signing.key is None else sign(b"doctor", signing.key)
        signers = None if signing.allowed_signers is None else Signers(signing.allowed_signers)
        problem = None if signers is None else signers.problem(b"doctor", signature or b"")
    except HoldfastError as error:
        yield Examined("signing", "FAIL", f"{error.message} {error.remedy}".strip())
        return
    if signature is None:
        yield Examined("signing", "warn", "no key: what this host makes is not signed")
    elif problem is not None:
        yield Examined("signing", "FAIL", "the key is none of allowed_signers: " + problem)
    else:
        yield Examined("signing", "ok", "the key signs" + (" and is allowed" if signers else ""))


def _identity(session: Session) -> Iterator[Examined]:
    from runner.store.age import parse_identities

    encryption = session.spec.encryption
    if encryption is None:
        yield Examined("encryption", "warn", "none: whoever reads a target reads everything")
        return
    if encryption.waiting:
        yield Examined("encryption", "FAIL", encryption.waiting[0].message)
        return
    if encryption.identity is None:
        yield Examined("identity", "warn", "none declared: nothing can be proven by a restore")
        return
    try:
        parse_identities(encryption.identity.reveal())
    except HoldfastError as error:
        yield Examined("identity", "FAIL", f"{error.message} {error.remedy}".strip())
        return
    file = encryption.identity.file
    exposed = file is not None and file.stat().st_mode & 0o077
    words = f"{file} can be read by others: chmod 600" if exposed else "can be read"
    yield Examined("identity", "warn" if exposed else "ok", words)
