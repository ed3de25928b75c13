"""From a finished run to the JSON of its command: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from runner.errors import Interrupted, PersonNeeded, StepFailed
from runner.execute.ending import Finished
from runner.execute.journal import StepResult, is_done
from runner.plan.model import Plan, Step
from runner.report.outcome import Outcome
from runner.report.removed import left_alone, partial
from runner.store.chain import Gap, Guard

EMPTY: Mapping[str, str] = {}


def backup_outcome(plan: Plan, finished: Finished) -> Outcome:
    """`backup`: the snapshots that were published, and what was pruned."""
    snapshots = []
    pruned: list[Any] = []
    for step in plan.steps:
        result = finished.results.get(step.id)
        if result is None:
            continue
        if step.action == "snapshot.publish" and result.done:
            snapshots.append(_snapshot(plan, step.params, result, finished.results))
        if step.action == "snapshot.prune":
            pruned += result.outputs.get("removed", [])
    older = _lacking(plan, finished.results)
    return Outcome(
        "backup",
        {
            "run": finished.run,
            "status": finished.status,
            "seconds": finished.seconds,
            "snapshots": snapshots,
            "completed": _completed(plan, finished.results),
            "lacking": older,
            "pruned": pruned,
            "failures": _failures(plan, finished.results),
            "next": _backup_next(
                finished, lacking=any([older, *(one["lacking"] for one in snapshots)])
            ),
        },
        finished.exit_code,
        finished.error,
        notes=tuple(_notes(plan, finished)),
    )


def _completed(plan: Plan, results: Mapping[str, StepResult]) -> list[dict[str, Any]]:
    """The copies of older snapshots that were still to be made, and were."""
    return [
        {
            "id": step.params["snapshot"],
            "target": step.params["target"],
            "from": results[step.id].outputs["from"],
        }
        for step in _older_copies(plan)
        if is_done(step.id, results)
    ]


def _lacking(plan: Plan, results: Mapping[str, StepResult]) -> list[dict[str, Any]]:
    """The copies of older snapshots that are still to be made, and why."""
    return [
        {
            "id": step.params["snapshot"],
            "target": step.params["target"],
            "reason": _why(results.get(step.id)),
        }
        for step in _older_copies(plan)
        if not is_done(step.id, results)
    ]


def _failures(plan: Plan, results: Mapping[str, StepResult]) -> list[dict[str, str]]:
    """Every step that failed, and why."""
    failed = [step for step in plan.steps if _has_failed(step, results)]
    return [
        {"step": step.id, "message": results[step.id].message}
        for step in failed
        if not _is_consequence(step, failed)
    ]


def _has_failed(step: Step, results: Mapping[str, StepResult]) -> bool:
    return step.id in results and results[step.id].status == "failed"


def _is_consequence(step: Step, failed: Sequence[Step]) -> bool:
    """Whether it says no more than others: that there is nothing to publish, since no source was
    captured; that a target cannot be tidied up either.
    """
    if step.action == "snapshot.publish":
        return {one.id for one in failed}.issuperset(step.params["captures"].values())
    if step.action == "snapshot.sweep":
        there = step.params["target"]
        return any(
            one.action != step.action and one.params.get("target") == there for one in failed
        )
    return False


def _older_copies(plan: Plan) -> Iterable[Step]:
    copies = (step for step in plan.steps if step.action == "snapshot.copy")
    return (step for step in copies if step.params["publish"] is None)


def _backup_next(finished: Finished, *, lacking: bool) -> str | None:
    """The exact line that mends what is not well; None when all is."""
    if finished.exit_code == 0:
        return None
    if lacking:
        return f"holdfast backup --resume {finished.run}"
    if finished.exit_code == Interrupted.exit_code:
        return None
    return f"holdfast show --run {finished.run}"


def safety_outcome(plan: Plan, finished: Finished) -> Outcome:
    """`prune --safety`: what was removed, and what stays for which reason."""
    removed = [
        {"run": step.params["run"], "source": step.params["source"], "where": copy["where"]}
        for step in plan.steps
        if step.id in finished.results
        for copy in finished.results[step.id].outputs.get("removed", ())
    ]
    kept = [
        {"run": one["run"], "source": one["source"], "where": copy["where"],
         "reason": one["reason"]}
        for one in plan.facts["left"]
        for copy in one["copies"] or [{"where": "?"}]
    ]  # fmt: skip
    data = {"removed": removed, "kept": kept}
    return Outcome("prune-safety", data, finished.exit_code, finished.error)


def verify_outcome(
    finished: Finished,
    gaps: Sequence[Gap] = (),
    unreachable: Mapping[str, str] = EMPTY,
    guarded: Sequence[Guard] = (),
) -> Outcome:
    """`verify`: every finding, snapshots that a target no longer holds, the targets that were asked
    for and could not be read: of what lies there nothing is known, which is no pass; and what would
    show that a target was set back.
    """
    results = [
        one for result in finished.results.values() for one in result.outputs.get("results", [])
    ]
    results += [_gap(gap) for gap in gaps]
    error = finished.error
    if gaps and error is None:
        gone = f"{gaps[0].snapshot} at {gaps[0].target}: {gaps[0].reason}"
        error = {"kind": "failed", "message": gone}
    code = StepFailed.exit_code if gaps else finished.exit_code
    unread = [{"target": name, "reason": reason} for name, reason in unreachable.items()]
    if unread and code == 0:
        code = PersonNeeded.exit_code
        error = {"kind": "person", "message": f"Not verified: {unread[0]['reason']}"}
    rollback = [asdict(one) for one in guarded]
    data = {"results": results, "unread": unread, "rollback": rollback}
    return Outcome("verify", data, code, error)


def _gap(gap: Gap) -> dict[str, Any]:
    return {
        "snapshot": gap.snapshot,
        "target": gap.target,
        "source": "",
        "level": "stored",
        "verdict": gap.verdict,
        "reason": gap.reason,
        "basis": "stored",
    }


def pin_outcome(plan: Plan, finished: Finished) -> Outcome:
    """`pin` and `unpin`: how the snapshot stands now, and where that is written down."""
    facts = plan.facts
    written = [step.params["target"] for step in plan.steps if finished.results[step.id].done]
    # Where nothing was written, all stands as it did.
    pinned = plan.kind == "pin" if written else facts["pinned"]
    data: dict[str, Any] = {"id": facts["snapshot"], "pinned": pinned, "targets": written}
    if plan.kind == "pin":
        data["until"] = facts["until"] if written else facts["pinned_until"]
    found = Outcome(plan.kind, data, finished.exit_code, finished.error)
    missed = plan.facts.get("missed")
    if not missed:
        return found
    where = f"{', '.join(missed)} cannot be read now, or lost what it held. A copy there"
    later = {
        "pin": "is pinned by the next backup or prune that reaches it. Until then another machine "
        "that reaches nothing else may prune it.",
        "unpin": "stays pinned until you unpin it again.",
    }
    return partial(found, f"{where} {later[plan.kind]}")


def _snapshot(
    plan: Plan, params: Mapping[str, Any], result: StepResult, results: Mapping[str, StepResult]
) -> dict[str, Any]:
    copies = {
        step.params["target"]: results.get(step.id)
        for step in plan.steps
        if step.action == "snapshot.copy" and step.params["snapshot"] == params["snapshot"]
    }
    published = result.outputs["target"]
    copied = [name for name, copy in copies.items() if copy is not None and copy.done]
    there = [published, *(name for name in copied if name != published)]
    shown = ("source", "key", "kind", "base", "taken_at", "bytes", "sha256", "content_bytes",
             "content_sha256")  # fmt: skip
    artifacts = result.outputs["artifacts"]
    return {
        "id": params["snapshot"],
        "policy": params["policy"],
        "taken_at": params["created_at"],
        "targets": there,
        "lacking": [
            {"target": name, "reason": _why(copy)}
            for name, copy in copies.items()
            if name not in there
        ],
        "missing": result.outputs["missing"],
        "unchanged": result.outputs["unchanged"],
        "artifacts": [{key: one[key] for key in shown} for one in artifacts],
    }


def _why(result: StepResult | None) -> str:
    """Why a step is not done."""
    return "it did not begin" if result is None else result.why


def _notes(plan: Plan, finished: Finished) -> Iterable[str]:
    for one in left_alone(plan, finished):
        state = "is damaged" if one["next"] else "cannot be read here"
        yield f"{one['id']} at {one['target']} {state}, and is not pruned: {one['reason']}"
        if one["next"]:
            yield f"To remove it: {one['next']}"
    for step in plan.steps:
        result = finished.results.get(step.id)
        if result is None:
            continue
        yield from _detours(step, result)
        for note in result.outputs.get("entry", {}).get("notes", ()):
            yield f"{step.params['source']}: {note}"
        late = step.expected is not None and (result.seconds or 0) > step.expected
        if late:
            yield f"{step.id} was slow: {result.seconds:.0f} s, expected {step.expected:.0f} s"


def _detours(step: Step, result: StepResult) -> Iterable[str]:
    """Which targets did not take what they were to, and what was read twice for that."""
    taken = result.outputs.get("target")
    for name, reason in result.outputs.get("passed_over", {}).items():
        if taken is not None:
            yield f"{step.id} went to {taken} instead of {name}: {reason}"
    for name, reason in result.outputs.get("doubtful", {}).items():
        yield f"{step.id} could not take it from {name}: {reason}"
    again = result.outputs.get("read_again") or ()
    for source in [step.params["source"]] if again is True else again:
        yield f"{source} was read again: no target had all of what was read before"
