"""A snapshot's content in a scratch place of its own, for a person to look into."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from runner.daemon import SUFFIX, note_daemon
from runner.errors import PersonNeeded
from runner.execute.locks import SNAPSHOT_LOCK, held
from runner.execute.session import Session
from runner.foreground import hand_over, interruptible
from runner.plan.choose import Choice
from runner.prove.artifacts import SnapshotArtifacts
from runner.prove.scratch import scratch_folder
from runner.source import Place, Source
from runner.store.catalog import read_manifest
from runner.store.snapshot import folder_of

# Told where it stands, as of when, and what is doubtful about it.
Say = Callable[[str, datetime, Sequence[str]], None]


@dataclass(frozen=True)
class Looking:
    """How somebody wants to look."""

    text: str | None = None  # what to type there; None: it is read from standard input
    include: Sequence[str] = ()
    capture: bool = False  # return what is printed, rather than print it


@dataclass(frozen=True)
class Looked:
    """How it went."""

    address: str
    taken_at: datetime
    doubts: Sequence[str]  # how the content differs from the snapshot's, or why nobody can tell
    status: int  # of the program that was looked with
    printed: bytes


def look_into(session: Session, choice: Choice, profile: str, looking: Looking, say: Say) -> Looked:
    """Restore one source to a scratch place, start its program there, and remove everything.

    `say` is called once it is ready. Whatever ends this, nothing is
    left: what SIGKILL leaves is swept by the next command.
    """
    spec = session.spec
    source = session.aside("open").source(choice.source)
    lock = held(spec.state, SNAPSHOT_LOCK, "open", shared=True, wait=session.call.wait)
    with interruptible(), scratch_folder(spec.state / "scratch", "open") as folder:
        home = folder / choice.source
        home.mkdir()
        place = Place(
            token="open",  # noqa: S106 - it names what lies beside, and there is one run alone
            destination=source.scratch_destination(home),
            include=tuple(looking.include),
            workspace=folder / "workspace",
            safety=folder / "safety",
        )
        with lock:
            doubts = _restore(session, source, choice, profile, place)
        address = source.address(place.destination)
        taken_at = choice.snapshot.sources[choice.source].taken_at
        say(address, taken_at, doubts)
        prompt = source.prompt(place.destination, looking.text)
        status, printed = hand_over(
            prompt.arguments,
            environment={**os.environ, **prompt.environment},
            folder=prompt.folder or home,
            stdin=prompt.stdin,
            capture=looking.capture,
            note=lambda pid: _note_program(folder, pid),
        )
    return Looked(address, taken_at, doubts, status, printed)


def _restore(
    session: Session, source: Source, choice: Choice, profile: str, place: Place
) -> Sequence[str]:
    """Bring it there; return how it differs from its fingerprint."""
    project, snapshot = session.spec.project, choice.snapshot.id
    target = session.targets[choice.target]
    manifest, _ = read_manifest(target, project, profile, snapshot)
    context = session.aside("open")
    artifacts = SnapshotArtifacts(
        target, folder_of(project, profile, snapshot), manifest, source.name, context.identities
    )
    source.stage(artifacts, place)
    try:
        found = source.fingerprint(place)
        doubts = list(source.differences(artifacts.fingerprint, found, place))
    except PersonNeeded as error:
        doubts = [error.message]
    source.swap(place)
    source.discard(place)
    return doubts


def _note_program(folder: Path, pid: int) -> None:
    """Have what sweeps the scratch place end the program, too: it outlives a SIGKILL of this."""
    with suppress(ProcessLookupError):
        note_daemon(folder / f"prompt{SUFFIX}", pid, group=os.getpgid(pid) == pid)
