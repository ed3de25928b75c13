"""Readiness: could a recovery start now? Answered in seconds, without restoring anything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runner.errors import HoldfastError
from runner.execute.session import Session
from runner.plan.choose import Asked, Choice, choose
from runner.plan.facts import manifests
from runner.plan.recover import recovery_entries
from runner.prove.artifacts import SnapshotArtifacts
from runner.prove.restored import told
from runner.prove.stored import file_problem, look, own_problems
from runner.registry import open_source
from runner.report.outcome import Outcome, stamp
from runner.report.status import from_the_future, newest_before, past_drills
from runner.report.target_words import counted
from runner.report.targets import STATUS_SECONDS
from runner.spec.foreign import lacking
from runner.spec.model import Objective, SourceSpec
from runner.spec.units import format_duration, format_size
from runner.store.catalog import Catalog
from runner.store.records import COULD_NOT_VERIFY, FAIL, PASS, SKIP
from runner.store.snapshot import Manifest, folder_of

# The programs that restoring a source of each type takes, and the Debian package of each.
PROGRAMS = {
    "git": {"git": "git"},
    "files": {"tar": "tar"},
    "postgres": {"psql": "postgresql-client", "pg_restore": "postgresql-client"},
}
KINDS = {4: "failed", 5: "objective", 7: "person"}


@dataclass(frozen=True)
class Point:
    """One thing that a recovery needs."""

    what: str
    verdict: str  # PASS | FAIL | SKIP | COULD-NOT-VERIFY
    found: str
    code: int = 0  # the exit code that it means; 0 where it is well


def judge_readiness(session: Session) -> Outcome:
    """The outcome of `status --ready`: 4 when something is missing, 5 when an objective is missed
    or a proof is overdue, 7 when nobody can tell; the lowest counts.
    """
    catalog = session.catalog(patience=STATUS_SECONDS)
    points = [
        *_targets(session, catalog),
        *_programs(session),
        *(_bad("spec", one) for one in lacking(session.spec)),
        *_drills(session, catalog),
        *_proofs(session, catalog),
    ]
    try:
        choices = choose(session.spec, catalog, recovery_entries(session.spec, (), None), Asked())
    except HoldfastError as error:
        points.append(_bad("snapshots", f"{error.message} {error.remedy}"))
    else:
        points += _readable(session, choices)
    troubles = sorted((one for one in points if one.code), key=lambda one: one.code)
    code = troubles[0].code if troubles else 0
    data = {
        "ready": not troubles,
        "line": _line(points, troubles),
        "points": [_shown(one) for one in points],
    }
    error_json = {"kind": KINDS[code], "message": data["line"]} if troubles else None
    return Outcome("ready", data, code, error_json)


def _line(points: list[Point], troubles: list[Point]) -> str:
    """All of it in one line, for monitors."""
    if not troubles:
        return f"READY: {len(points)} of {len(points)} points are well."
    rest = f" (and {len(troubles) - 1} more)" if len(troubles) > 1 else ""
    return f"NOT READY: {troubles[0].what}: {troubles[0].found}{rest}"


def _shown(point: Point) -> dict[str, Any]:
    return {name: value for name, value in asdict(point).items() if name != "code"}


def _targets(session: Session, catalog: Catalog) -> Iterator[Point]:
    """Each target: does it answer, and does it hold every source that it is to hold, in time."""
    for name in session.spec.targets:
        what = f"target {name}"
        if name in catalog.unreachable:
            yield _bad(what, f"cannot be read: {catalog.unreachable[name]}")
            continue
        sources = dict.fromkeys(
            source
            for policy in session.spec.policies.values()
            if name in policy.targets
            for source in policy.sources
        )
        faults = [one for source in sources for one in _stale(session, catalog, name, source)]
        yield from faults or [
            Point(what, PASS, f"holds {counted(len(sources), 'source')}, each in time")
        ]


def _stale(session: Session, catalog: Catalog, target: str, source: str) -> Iterator[Point]:
    what = f"{source} at {target}"
    fresh = catalog.fresh_at(source, target=target)
    if fresh is None:
        yield _bad(what, f"no snapshot. Next: holdfast backup --source {source}")
        return
    if from_the_future(fresh, session.facts.now):
        words = f"dated {stamp(fresh)}, in the future: some clock is wrong"
        yield Point(what, COULD_NOT_VERIFY, words, 7)
        return
    rpo = (session.spec.objectives.get(source) or Objective(source)).rpo
    age = (session.facts.now - fresh).total_seconds()
    if rpo is not None and age > rpo:
        words = f"{format_duration(round(age))} old, and its RPO is {format_duration(rpo)}"
        yield Point(what, FAIL, words, 5)


def _programs(session: Session) -> Iterator[Point]:
    for name, source in session.spec.sources.items():
        missing = _lacking(source)
        if missing:
            yield _bad(f"programs for {name}", f"missing: {', '.join(missing)}")
    if not any(_lacking(source) for source in session.spec.sources.values()):
        yield Point("programs", PASS, "what a restore runs is here")


def _lacking(source: SourceSpec) -> list[str]:
    """The programs that are missing here; those of `exec:` are elsewhere."""
    if source.options.get("exec"):
        return []
    needed = PROGRAMS.get(source.type, {})
    return [
        f"{program} (apt-get install {package})"
        for program, package in needed.items()
        if shutil.which(program, path=_search_path(source)) is None
    ]


def _search_path(source: SourceSpec) -> str:
    """Where programs of a source are looked for; Debian's PostgreSQL is not in PATH."""
    own = source.options.get("bin")
    folders = [source.folder / Path(own).expanduser()] if own else []
    folders += [] if own else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return os.pathsep.join([*map(str, folders), *([] if own else [os.environ.get("PATH", "")])])


def _drills(session: Session, catalog: Catalog) -> Iterator[Point]:
    last = next(iter(past_drills(session, catalog)), None)
    every = (session.spec.objectives.get("system") or Objective("system")).drill_every
    if last is not None and not last.ok:
        yield _bad("drill", f"{last.run} did not pass. Next: holdfast drill")
    elif every is not None and (
        last is None or (session.facts.now - last.at).total_seconds() > every
    ):
        since = stamp(last.at) if last else "never"
        yield Point("drill", FAIL, f"overdue; the last one: {since}. Next: holdfast drill", 5)
    elif last is not None:
        yield Point("drill", PASS, f"{last.run} passed")
    else:
        yield Point("drill", SKIP, "there was none, and no drill_every asks for one")


def _proofs(session: Session, catalog: Catalog) -> Iterator[Point]:
    for name, objective in session.spec.objectives.items():
        if objective.proof_every is None or name not in session.spec.sources:
            continue
        proofs = [one.best_proof(name) for one in catalog.snapshots]
        restored = [one.at for one in proofs if one is not None and one.level == "restored"]
        proved = newest_before(session.facts.now, restored)
        if proved is None or (session.facts.now - proved).total_seconds() > objective.proof_every:
            words = f"overdue; the last one: {stamp(proved) if proved else 'never'}. Next: "
            words += f"holdfast verify --level restored --source {name}"
            yield Point(f"proof of {name}", FAIL, words, 5)
        else:
            yield Point(f"proof of {name}", PASS, f"at {stamp(proved)}")


def _readable(session: Session, choices: list[Choice]) -> Iterator[Point]:
    pairs = [(one.snapshot.id, one.target) for one in choices]
    try:
        read = manifests(session.spec, session.targets, pairs)
    except HoldfastError as error:
        yield _bad("manifests", f"{error.message} {error.remedy}")
        return
    yield from _whole(session, choices)
    yield _identity(session, choices, read)
    yield from _space(session, choices, read)


def _whole(session: Session, choices: list[Choice]) -> Iterator[Point]:
    """Whether each snapshot's files are there, of their sizes, and the small ones as written."""
    spec = session.spec
    sources: dict[tuple[str, str], list[str]] = {}
    for one in choices:
        sources.setdefault((one.snapshot.id, one.target), []).append(one.source)
    for (snapshot, target), names in sources.items():
        what = f"{snapshot} at {target}"
        try:
            folder = look(session.targets[target], spec.project, spec.profile, snapshot)
            problems = own_problems(folder, session.aside("ready").signers())
        except HoldfastError as error:
            yield _bad(what, f"{error.message} {error.remedy}")
            continue
        for entry in (entry for name in names for entry in folder.manifest.of(name)):
            problem = file_problem(folder, entry, None, read=False)
            problems += [] if problem is None else [f"{entry.key}: {problem}"]
        yield _bad(what, told(problems)) if problems else Point(what, PASS, "its files are there")


def _identity(session: Session, choices: list[Choice], read: Mapping[str, Manifest]) -> Point:
    """Whether the identity opens each snapshot: one fingerprint, which is small, is opened."""
    sealed = {one.snapshot.id: one for one in choices if one.snapshot.encrypted}
    if not sealed:
        return Point("identity", SKIP, "nothing is encrypted")
    spec, context = session.spec, session.aside("ready")
    for snapshot, one in sealed.items():
        artifacts = SnapshotArtifacts(
            session.targets[one.target],
            folder_of(spec.project, spec.profile, snapshot),
            read[snapshot],
            one.source,
            context.identities,
        )
        try:
            _ = artifacts.fingerprint
        except HoldfastError as error:
            words = f"{snapshot}: {error.message} {error.remedy}".strip()
            return Point("identity", COULD_NOT_VERIFY, words, 7)
    return Point("identity", PASS, f"opens {', '.join(sealed)}")


def _space(
    session: Session, choices: list[Choice], read: Mapping[str, Manifest]
) -> Iterator[Point]:
    """What is restored stands beside what is live until it is proven: each disk needs the room."""
    needed: dict[int, tuple[Path, int]] = {}
    for one in choices:
        artifacts = read[one.snapshot.id].content_of(one.source)
        size = sum(entry.content_bytes for entry in artifacts)
        paths = open_source(session.spec.source(one.source)).paths
        place = _existing(paths[0] if paths else session.spec.state)
        device = place.stat().st_dev
        known = needed.get(device, (place, 0))
        needed[device] = (known[0], known[1] + size)
    for place, size in needed.values():
        free = shutil.disk_usage(place).free
        words = f"{format_size(size)} to restore, {format_size(free)} free"
        yield (
            Point(f"space at {place}", PASS, words)
            if free > size
            else _bad(f"space at {place}", words)
        )


def _existing(path: Path) -> Path:
    return next(one for one in (path, *path.parents) if one.exists())


def _bad(what: str, found: str) -> Point:
    return Point(what, FAIL, found.strip(), 4)
