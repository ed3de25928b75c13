"""How things stand: each policy's runs, each source against its objectives, each target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from runner.errors import HoldfastError, UsageError
from runner.execute import journal
from runner.execute.journal import RunState
from runner.execute.recoveries import HalfDone, half_done, killed_recoveries, resume_line
from runner.execute.remembering import made_elsewhere, missing_links
from runner.execute.session import Session
from runner.plan.due import next_due
from runner.plan.outstanding import behind, damage, whole_at
from runner.report.foresight import remember
from runner.report.opened import not_for_the_declared
from runner.report.outcome import Outcome, stamp
from runner.report.outlook import outlook, seen, warnings
from runner.report.targets import (
    NOT_KNOWN,
    STATUS_SECONDS,
    Answers,
    answers,
    holding,
    last_measured,
)
from runner.spec.model import Objective
from runner.store.catalog import Catalog, Snapshot
from runner.store.records import FAIL, PASS, DrillResult
from runner.store.retention import FUTURE


def judge(session: Session) -> Outcome:
    """The outcome of `status`; exit 4 when the last run failed, 5 when an objective is missed."""
    catalog = session.catalog(patience=STATUS_SECONDS)
    known = seen(session.spec, catalog)
    if not catalog.unreachable:
        remember(session.spec, known, session.facts.now)
    data: dict[str, Any] = {
        "policies": _policies(session, catalog),
        "sources": [_source(session, catalog, name) for name in session.spec.sources],
        "targets": _targets(session, catalog),
        "forecasts": outlook(session.spec, known),
    }
    others = (
        known.unopened,
        not_for_the_declared(session.spec, catalog),
        made_elsewhere(session.spec, catalog),
    )
    lacking = () if catalog.unreachable else _without_snapshot(data["sources"])
    data["warnings"] = [*lacking, *warnings(data["forecasts"]), *filter(None, others)]
    troubles = list(_troubles(session, data, catalog))
    code = min((number for number, _ in troubles), default=0)
    words = tuple(_typeable(message, session.call.again) for _, message in troubles)
    kinds = {4: "failed", 5: "objective", 7: "person"}
    error = {"kind": kinds[code], "message": words[0]} if troubles else None
    return Outcome("status", data, code, error, words)


def _policies(session: Session, catalog: Catalog) -> list[dict[str, Any]]:
    last = _last_runs(session)
    return [
        {
            "policy": policy.name,
            "last_run": last.get(policy.name),
            "next_due": stamp(next_due(session.spec, catalog, policy, session.facts.now)),
        }
        for policy in session.spec.policies.values()
    ]


def _last_runs(session: Session) -> dict[str, dict[str, Any]]:
    """The newest backup run of each policy; journals are read newest first, as few as needed."""
    state = session.spec.state
    names = [one for one in journal.list_runs(state) if journal.kind_of(one) == "backup"]
    missing = set(session.spec.policies)
    found: dict[str, dict[str, Any]] = {}
    for name in reversed(names):
        if not missing:
            break
        try:
            plan = journal.read_plan(state, name)
            mine = plan.profile == session.spec.profile
            hits = missing & {step.params.get("policy") for step in plan.steps if mine}
            if hits:
                run = journal.read_run(state, name)
                found |= {policy: _run(name, run, policy) for policy in hits}
                missing -= hits
        except UsageError:
            continue
    return found


def _run(name: str, run: RunState, policy: str) -> dict[str, Any]:
    """A run as one policy sees it: only its own steps count."""
    failed = [
        result
        for step, result in run.results.items()
        if step.startswith(f"{policy}.") and result.status in ("failed", "interrupted")
    ]
    status = "interrupted" if run.killed else run.status
    if status in ("partial", "failed") and not failed:
        status = "done"
    error = (failed[0].message or None) if failed else None
    return {"run": name, "at": run.started_at, "status": status, "error": error}


def _source(session: Session, catalog: Catalog, name: str) -> dict[str, Any]:
    now = session.facts.now
    newest, fresh = catalog.newest(name), catalog.fresh_at(name)
    objective = session.spec.objectives.get(name) or Objective(name)
    age = None if fresh is None else max(0.0, (now - fresh).total_seconds())
    met = None if objective.rpo is None else age is not None and age <= objective.rpo
    if from_the_future(fresh, now):
        met = None
    proofs = [
        proof
        for one in catalog.snapshots
        if (proof := one.best_proof(name)) is not None and proof.level == "restored"
    ]
    proved = newest_before(now, (proof.at for proof in proofs))
    return {
        "source": name,
        "newest": None if newest is None else {"id": newest.id, "age": age},
        "rpo": {"objective": objective.rpo, "met": met},
        "proved_at": stamp(proved),
        "proof_age": None if proved is None else max(0.0, (now - proved).total_seconds()),
        "proof_overdue": _overdue(proved, objective.proof_every, now),
        "rto": _last_drill(past_drills(session, catalog), name, objective),
    }


def _overdue(last: datetime | None, every: float | None, now: datetime) -> bool | None:
    if every is None:
        return None
    return last is None or (now - last).total_seconds() > every


def _last_drill(drills: Sequence[DrillResult], name: str, objective: Objective) -> dict[str, Any]:
    for drill in drills:
        measured = drill.details.get("rto", {}).get(name)
        if measured is not None:
            seconds = measured["measured"]
            met = None
            if objective.rto is not None and seconds is not None:
                met = seconds <= objective.rto
            elif objective.rto is not None and not drill.ok:
                met = measured["met"]
            return {
                "objective": objective.rto,
                "measured": seconds,
                "met": met,
                "drill": drill.run,
            }
    return {"objective": objective.rto, "measured": None, "met": None, "drill": None}


def _targets(session: Session, catalog: Catalog) -> list[dict[str, Any]]:
    """Each target as it is now: what is not known is None, and never taken from a cache."""
    there = [name for name in session.spec.targets if name not in catalog.unreachable]
    speed = last_measured(session.spec)
    found = answers(session, there)
    return [
        {
            "target": name,
            "reachable": _reached(catalog, name),
            **(holding(session, catalog, name) if name in there else NOT_KNOWN),
            "behind": len(behind(session.spec, catalog, name)) if name in there else None,
            **_answered(found.get(name)),
            "throughput": asdict(speed[name]) if name in speed else None,
        }
        for name in session.spec.targets
    ]


def _reached(catalog: Catalog, name: str) -> bool | None:
    if name in catalog.unreachable:
        return None if name in catalog.silent else False
    return True


def _answered(answer: Answers | HoldfastError | None) -> dict[str, Any]:
    if isinstance(answer, Answers):
        return asdict(answer)
    return {"latency": None, "free": None}


def _troubles(session: Session, data: dict[str, Any], catalog: Catalog) -> list[tuple[int, str]]:
    """What is not well, with the exit code that it means, and the line to type next."""
    found = [
        (4, _unfinished(run, journal.read_run(session.spec.state, run).again))
        for run in killed_recoveries(session.spec.state)
    ]
    found += [(4, _half_done(one)) for one in half_done(session.spec.state)]
    found += [(4, one) for one in _policy_troubles(data["policies"])]
    found += [(4, one) for one in _target_troubles(session, catalog)]
    found += [
        (4, f"{gap.snapshot} at {gap.target}: {gap.reason}.")
        for gap in missing_links(session.spec, catalog)
    ]
    found += [(4, line) for line in _proof_troubles(session, catalog)]
    found += [(5, line) for source in data["sources"] for line in _source_troubles(source)]
    found += [(7, line) for line in _future_troubles(session, catalog)]
    return found + list(_drill_troubles(session, catalog))


def _unfinished(run: str, again: str) -> str:
    line = resume_line(journal.kind_of(run), run, again) or "holdfast verify"
    return (
        f"The run {run} was killed: what it replaces may be there in part, and services that it "
        "stopped may be down. Any command that acts takes that back first, backup and verify too. "
        f"Next: {line}"
    )


def _half_done(one: HalfDone) -> str:
    """What a recovery that ended early left."""
    lacks = ", ".join(one.lacks[:3]) + (" …" if len(one.lacks) > 3 else "")
    parts = {
        "brought back": ", ".join(one.placed),
        "not done": lacks,
        "stopped and not started again": ", ".join(one.stopped),
    }
    told = "; ".join(f"{words}: {names}" for words, names in parts.items() if names)
    back = f"holdfast dr-restore --rollback {one.run}"
    return (
        f"The run {one.run} ended as {one.status} ({told}). "
        + (f"What it replaced is put back by: {back}. " if one.placed else "")
        + f"Next: {resume_line(one.kind, one.run, one.again)}"
    )


def _typeable(trouble: str, again: str) -> str:
    """A trouble, whose next line has the flags that every further line needs."""
    return f"{trouble} {again}" if again and "Next: holdfast " in trouble else trouble


def _future_troubles(session: Session, catalog: Catalog) -> Iterator[str]:
    for name in session.spec.sources:
        fresh = catalog.fresh_at(name)
        if from_the_future(fresh, session.facts.now):
            yield (
                f"The newest snapshot of {name} is dated {stamp(fresh)}, in the future: some clock "
                f"is wrong, so nobody knows its age. Next: holdfast backup --source {name}"
            )


def from_the_future(at: datetime | None, now: datetime) -> bool:
    """Whether only a wrong clock can have dated it."""
    return at is not None and at - now > FUTURE


def newest_before(now: datetime, instants: Iterable[datetime]) -> datetime | None:
    """The newest instant, without those that a wrong clock told: they would stay the newest."""
    return max((one for one in instants if not from_the_future(one, now)), default=None)


def past_drills(session: Session, catalog: Catalog) -> list[DrillResult]:
    """The drills, newest first, without those that a wrong clock dated."""
    return [one for one in catalog.drills if not from_the_future(one.at, session.facts.now)]


def _drill_troubles(session: Session, catalog: Catalog) -> Iterator[tuple[int, str]]:
    last = next(iter(past_drills(session, catalog)), None)
    if last is not None and not last.ok:
        yield 4, f"The last drill, {last.run}, did not pass. Next: holdfast drill"
    system = session.spec.objectives.get("system") or Objective("system")
    if _overdue(last.at if last else None, system.drill_every, session.facts.now):
        since = stamp(last.at) if last else "never"
        yield 5, f"A drill is overdue (the last one: {since}). Next: holdfast drill"


def _policy_troubles(policies: list[dict[str, Any]]) -> Iterator[str]:
    for policy in policies:
        run = policy["last_run"]
        if run is not None and run["status"] in ("failed", "partial", "interrupted"):
            why = run["error"] or "see its steps."
            yield (
                f"The last run of {policy['policy']} ended as {run['status']}: {why} "
                f"Next: holdfast show --run {run['run']}"
            )


def _target_troubles(session: Session, catalog: Catalog) -> Iterator[str]:
    for name in session.spec.targets:
        if name in catalog.unreachable:
            yield f"The target {name} cannot be read: {catalog.unreachable[name]}"
            continue
        lacks = 0
        for one in behind(session.spec, catalog, name):
            reason = damage(one, name) if name in one.targets else None
            if reason is None:
                lacks += 1
            else:
                yield f"The copy of {one.id} at {name} is damaged: {reason}. Next: holdfast backup"
        if lacks:
            count = "1 snapshot" if lacks == 1 else f"{lacks} snapshots"
            yield f"The target {name} is {count} behind. Next: holdfast backup"


def _proof_troubles(session: Session, catalog: Catalog) -> Iterator[str]:
    """Newest snapshots that were restored to be verified, and were not what they should be."""
    for name in session.spec.sources:
        newest = catalog.newest(name)
        if newest is None:
            continue
        for target in newest.targets:
            reason = _disproved(newest, name, target)
            # Of a copy that is damaged it is said that the target lacks it.
            if reason is not None and whole_at(newest, target):
                yield (
                    f"{name} of {newest.id} at {target} did not pass when it was restored: "
                    f"{reason}. Next: holdfast verify --level restored --source {name}"
                )


def _disproved(snapshot: Snapshot, source: str, target: str) -> str | None:
    """Why a source did not pass, if that was the last verdict on what was restored of it."""
    wanted = (target, source, "restored")
    for one in snapshot.proofs:  # newest first
        if (one.target, one.source, one.level) == wanted and one.verdict in (PASS, FAIL):
            return one.reason if one.verdict == FAIL else None
    return None


def _without_snapshot(sources: list[dict[str, Any]]) -> Iterator[str]:
    """What was never backed up; where an RPO is declared, that it is missed says so."""
    for source in sources:
        if source["newest"] is None and source["rpo"]["met"] is None:
            name = source["source"]
            yield f"There is no snapshot of {name}. Next: holdfast backup --source {name}"


def _source_troubles(source: dict[str, Any]) -> Iterator[str]:
    name = source["source"]
    if source["rpo"]["met"] is False:
        yield f"The RPO of {name} is missed. Next: holdfast backup --source {name}"
    if source["rto"]["met"] is False:
        yield f"The RTO of {name} was missed in drill {source['rto']['drill']}: read its report."
    if source["proof_overdue"]:
        yield (
            f"The proof of {name} is overdue. "
            f"Next: holdfast verify --level restored --source {name}"
        )
