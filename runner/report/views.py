"""Looks: the commands that show how things are and change nothing that matters."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runner.errors import UsageError
from runner.execute import journal
from runner.execute.call import Call
from runner.execute.session import Session
from runner.plan.choose import Asked, choose
from runner.report.outcome import Outcome, stamp
from runner.store.catalog import Catalog, Snapshot, no_collection, read_manifest


def catalog(
    call: Call,
    *,
    sources: Sequence[str] = (),
    policies: Sequence[str] = (),
    targets: Sequence[str] = (),
) -> Outcome:
    """`list`: the snapshots, newest first."""
    session = Session.open(call)
    for name in sources:
        session.spec.source(name)
    for name in policies:
        session.spec.policy(name)
    found = session.catalog(targets, glance=True)
    with no_collection():
        rows = [
            row(one)
            for one in found.snapshots
            if (not sources or set(sources) & set(one.covers))
            and (not policies or one.policy in policies)
            and (not targets or set(targets) & set(one.targets))
        ]
    data: dict[str, Any] = {"snapshots": rows}
    return listed(data, troubles_of(found))


def snapshot(call: Call, wanted: str) -> Outcome:
    """`show --snapshot`: the manifest, and where it lies."""
    session = Session.open(call)
    one = session.catalog(needed=()).find(wanted)
    spec = session.spec
    manifest, _ = read_manifest(session.targets[one.targets[0]], spec.project, spec.profile, one.id)
    data = {**manifest.as_json(), "targets": list(one.targets), "pinned": one.pinned}
    data["proofs"] = [{**asdict(proof), "at": stamp(proof.at)} for proof in one.proofs]
    for proof in data["proofs"]:
        del proof["behind"]
    return Outcome("show", data)


def run(call: Call, wanted: str) -> Outcome:
    """`show --run`: one run, step by step."""
    session = Session.open(call)
    state = journal.read_run(session.spec.state, wanted)
    plan = journal.read_plan(session.spec.state, wanted)
    steps = []
    for step in plan.steps:
        result = state.results.get(step.id)
        steps.append(
            {
                "id": step.id,
                "title": step.title,
                "status": "pending" if result is None else result.status,
                "seconds": None if result is None else result.seconds,
                "error": None if result is None else result.error,
                "reason": "" if result is None else result.reason,
            }
        )
    data = {
        "run": wanted,
        "kind": plan.kind,
        "status": "interrupted" if state.killed else state.status,
        "started_at": state.started_at,
        "ended_at": state.ended_at,
        "steps": steps,
    }
    return Outcome("run", data)


def contents(call: Call, source: str, choosing: Any, include: Sequence[str]) -> Outcome:
    """`ls`: what is inside a snapshot of one source."""
    from runner.prove.artifacts import SnapshotArtifacts
    from runner.store.snapshot import folder_of

    session = Session.open(call)
    spec, at = session.spec, session.instant(choosing.at)
    (choice,) = choose(spec, session.catalog(needed=()), [source], Asked(choosing.snapshot, at))
    target = session.targets[choice.target]
    manifest, _ = read_manifest(target, spec.project, spec.profile, choice.snapshot.id)
    context = session.aside("ls")
    artifacts = SnapshotArtifacts(
        target,
        folder_of(spec.project, spec.profile, choice.snapshot.id),
        manifest,
        source,
        context.identities,
    )
    listed = [
        {"name": one.name, "kind": one.kind, "bytes": one.bytes, "modified": stamp(one.modified)}
        for one in context.source(source).contents(artifacts)
        if not include or any(_matches(one.name, glob) for glob in include)
    ]
    return Outcome("ls", {"source": source, "snapshot": choice.snapshot.id, "contents": listed})


def history(call: Call, *, runs: bool, drills: bool, most: int | None) -> Outcome:
    """`history`: past runs, drills or both, newest first, and how many older ones there are."""
    session = Session.open(call)
    data: dict[str, Any] = {}
    older = 0
    if runs:
        folder = session.spec.state
        began = [one for one in journal.list_runs(folder) if journal.has_begun(folder, one)]
        # Only what is shown is read: there may be years of journals.
        names = began[::-1][:most]
        data["runs"] = list(_pasts(folder, names))
        older += len(began) - len(names)
    if drills:
        found = session.catalog().drills
        shown = [{**d.details, "run": d.run, "at": stamp(d.at), "ok": d.ok} for d in found[:most]]
        data["drills"] = shown
        older += len(found) - len(shown)
    return Outcome("history", {**data, "older": older})


def drill_evidence(call: Call, folder: Path | None) -> Outcome:
    """`history --drills --verify`: whether the reports are those that were written."""
    from runner.report.evidence import examine_chain
    from runner.store.records import COULD_NOT_VERIFY, FAIL
    from runner.store.signature import Signers

    session = Session.open(call)
    spec = session.spec
    allowed = spec.signing.allowed_signers if spec.signing else None
    rows = examine_chain(
        spec,
        session.catalog().drills,
        folder or spec.state / "drills",
        None if allowed is None else Signers(allowed),
    )
    bad = [one for one in rows if one["verdict"] == FAIL]
    unsure = [one for one in rows if one["verdict"] == COULD_NOT_VERIFY]
    code = 4 if bad else 7 if unsure else 0
    words = [f"{one['run']}: {one['reason']}." for one in bad or unsure]
    error = {"kind": "failed" if bad else "person", "message": words[0]} if words else None
    return Outcome("history", {"evidence": rows}, code, error)


def _pasts(folder: Path, names: Iterable[str]) -> Iterator[dict[str, Any]]:
    for name in names:
        try:
            state = journal.read_run(folder, name)
        except UsageError:
            continue  # another command has just forgotten it
        yield {
            "run": name,
            "kind": journal.kind_of(name),
            "status": "interrupted" if state.killed else state.status,
            "started_at": state.started_at,
            "ended_at": state.ended_at,
            "exit_code": state.exit_code,
            "error": (state.error or {}).get("message"),
        }


def row(one: Snapshot) -> dict[str, Any]:
    """One snapshot in a list."""
    proof, covers = one.best_proof(), one.covers
    return {
        "id": one.id,
        "policy": one.policy,
        "taken_at": stamp(max(covers.values(), default=one.created_at)),
        "targets": list(one.targets),
        "sources": sorted(covers),
        "missing": list(one.missing),
        "bytes": one.bytes,
        "proved": None
        if proof is None
        else {
            "level": proof.level,
            "at": stamp(proof.at),
            "basis": proof.basis,
            "key": proof.key,
        },
        "pinned": one.pinned,
    }


def listed(data: dict[str, Any], troubles: Sequence[str]) -> Outcome:
    """A list, which is not whole where there are troubles."""
    return Outcome("list", data, 4 if troubles else 0, _first(troubles), tuple(troubles))


def troubles_of(found: Catalog) -> list[str]:
    """What could not be looked at, and why."""
    lines = [f"{name} cannot be read: {why}" for name, why in found.unreachable.items()]
    lines += [f"{one} at {target} is damaged: {why}" for target, one, why in found.damaged]
    return lines


def _first(troubles: Sequence[str]) -> dict[str, str] | None:
    return {"kind": "failed", "message": troubles[0]} if troubles else None


def _matches(name: str, glob: str) -> bool:
    pattern = glob.removeprefix("./").rstrip("/")
    if name == pattern or name.startswith(f"{pattern}/"):
        return True
    return fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}/*")


def fetch(
    call: Call, wanted: str, sources: Sequence[str], folder: Path, *, decrypt: bool
) -> Outcome:
    """`fetch`: artifacts as files."""
    from runner.execute.fetching import fetch_artifacts

    session = Session.open(call)
    fetched = fetch_artifacts(session, wanted, sources, folder, decrypt=decrypt)
    notes = [
        f"Not in it: {name}, which was unchanged. Next: holdfast fetch --snapshot {holder} "
        f"--source {name} --to FOLDER {call.again}".rstrip()
        for name, holder in fetched.elsewhere.items()
    ]
    notes += [
        f"Not in it: {name}, which could not be captured. Next: holdfast fetch --source {name} "
        f"--to FOLDER {call.again}".rstrip()
        for name in fetched.missing
    ]
    return Outcome("fetch", {"files": [str(one) for one in fetched.files]}, notes=tuple(notes))


def status(call: Call) -> Outcome:
    """`status`: how things stand."""
    from runner.report.status import judge

    return judge(Session.open(call))


def readiness(call: Call) -> Outcome:
    """`status --ready`: whether a recovery could start now."""
    from runner.report.ready import judge_readiness

    return judge_readiness(Session.open(call))


def runbook(call: Call, file: Path | None) -> Outcome:
    """`runbook`: the recovery as a document."""
    from runner.report.runbook import write_runbook

    return write_runbook(Session.open(call), file)


def stored_runbook(call: Call, snapshot: str, target: str, file: Path | None) -> Outcome:
    """`runbook --snapshot`: the one that lies in a snapshot; from `target`, if one is named."""
    from runner.report.snapshot_runbook import stored_runbook

    return snapshot_runbook(stored_runbook(Session.open(call), snapshot, target), file)


def snapshot_runbook(stored: bytes, file: Path | None) -> Outcome:
    """The runbook as a snapshot carries it, printed or written."""
    from runner.report.runbook import written

    return written(stored.decode("utf-8", "surrogateescape"), file)


def doctor(call: Call) -> Outcome:
    """`doctor`: can this machine do what the spec asks."""
    from runner.report.doctor import examine

    return examine(Session.open(call))
