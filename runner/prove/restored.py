"""Bring one source of a snapshot back into a scratch place, and say whether it is what it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from runner.errors import StepFailed
from runner.prove.probes import Answer, Asked, ask
from runner.source import Artifacts, Fingerprint, Place
from runner.spec.model import Probe
from runner.store.records import COULD_NOT_VERIFY, FAIL, PASS, SKIP

MOST_NAMED = 5


class Answering(Protocol):
    """What a question needs of a Source; see there."""

    name: str

    def ask(self, kind: str, question: str, where: str, timeout: float) -> Any:
        """A value out of what stands there."""


class Restorable(Answering, Protocol):
    """What a verification needs of a Source; see there."""

    def scratch_destination(self, folder: Path) -> str:
        """A destination inside `folder`."""

    def stage(self, artifacts: Artifacts, place: Place) -> None:
        """Write the content beside the destination."""

    def staged(self, place: Place) -> Path | str | None:
        """Where it stands."""

    def fingerprint(self, place: Place) -> Fingerprint:
        """Its fingerprint, taken anew."""

    def differences(self, expected: Fingerprint, found: Fingerprint, place: Place) -> Sequence[str]:
        """How it differs from the snapshot's."""

    def discard(self, place: Place) -> None:
        """Remove what was staged."""


def restore_and_ask(
    source: Restorable,
    artifacts: Artifacts,
    place: Place,
    *,
    checks: Sequence[Probe] = (),
    environment: Mapping[str, str],
) -> tuple[Sequence[str], list[Answer]]:
    """Stage the source; return how it differs from its fingerprint, and the answers to `checks`.

    What was staged is discarded. Raises what the source raises.
    """
    try:
        source.stage(artifacts, place)
        found = source.fingerprint(place)
        differences = source.differences(artifacts.fingerprint, found, place)
        asked = asked_of(source, source.staged(place), environment, isolated=True)
        # Last, since a check may write where it is run.
        return differences, [ask(probe, asked) for probe in checks]
    finally:
        source.discard(place)


def asked_of(
    source: Answering,
    where: Path | str | None,
    environment: Mapping[str, str],
    *,
    isolated: bool,
) -> Asked:
    """Questions for what stands at `where`: a path, a server's URL, or nothing at all."""

    def question(kind: str, text: str, timeout: float) -> Any:
        if where is None:
            raise StepFailed(f"There is nothing of {source.name} to ask.")
        return source.ask(kind, text, str(where), timeout)

    path = where if isinstance(where, Path) else None
    return Asked(path=path, source=question, environment=environment, isolated=isolated)


def told(differences: Sequence[str]) -> str:
    """Differences in one line; the first few of many."""
    more = len(differences) - MOST_NAMED
    return "; ".join(differences[:MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


def judged(answers: Sequence[Answer]) -> tuple[str, str]:
    """The verdict that all answers together give, and the reason."""
    for verdict in (FAIL, COULD_NOT_VERIFY):
        said = [
            f"check {one.name}: expected {one.expected}, found {one.actual}"
            for one in answers
            if one.verdict == verdict
        ]
        if said:
            return verdict, "; ".join(said)
    asked = [one.name for one in answers if one.verdict != SKIP]
    return PASS, f"checks hold: {', '.join(asked)}" if asked else "no check was asked"
