"""From a finished recovery to the JSON of its command: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from runner.execute.ending import Finished
from runner.execute.journal import StepResult, is_done
from runner.execute.recoveries import resume_line
from runner.plan.model import Plan
from runner.plan.telling import skew_words
from runner.report.outcome import Outcome
from runner.report.reporters import QUIET_REASONS

# What the contract calls a step that did not run for another's sake.
PUBLIC_STATUS = {"blocked": "skipped", "undone": "failed", "started": "interrupted"}


def recovery_outcome(plan: Plan, finished: Finished) -> Outcome:
    """`restore`, `dr-restore` and the common part of `drill`."""
    return Outcome(
        plan.kind,
        {
            "run": finished.run,
            "status": finished.status,
            "seconds": finished.seconds,
            "steps": steps_of(plan, finished.results),
            "proof": proofs_of(plan, finished.results),
            "safety": _safety(finished.results),
            "copies": copies_of(plan, finished.results),
            "skew": plan.facts.get("skew"),
            "manual": _manual(plan, finished.results),
            "next": next_line(plan, finished),
        },
        finished.exit_code,
        finished.error,
        notes=tuple(_notes(plan, finished)),
    )


def _notes(plan: Plan, finished: Finished) -> Iterable[str]:
    yield from plan.facts.get("doubts", ())
    words = skew_words(plan)
    if words:
        yield words
    for copy in copies_of(plan, finished.results):
        for one in copy["passed_over"]:
            yield (
                f"{copy['source']} came from {copy['target']}, since {one['target']} could not "
                f"serve: {one['reason']} `holdfast verify --target {one['target']}` says what is "
                "whole there."
            )
    for step in plan.steps:
        result = finished.results.get(step.id)
        if result is None:
            continue
        quiet = result.status != "skipped" or result.reason in QUIET_REASONS
        if step.action == "notify.tell" and not quiet:
            yield f"{step.id}: {result.reason}"
        if step.action in ("recovery.prove", "recovery.confirm"):
            for note in result.outputs.get("notes", ()):
                yield f"{step.params['source']}: {note}"


def _manual(plan: Plan, results: Mapping[str, StepResult]) -> list[dict[str, Any]]:
    """Who did what by hand, and when."""
    return [
        {"id": step.id, "by": results[step.id].outputs.get("by"),
         "at": results[step.id].outputs.get("at")}
        for step in plan.steps
        if step.action == "person.ask" and is_done(step.id, results)
    ]  # fmt: skip


def _safety(results: Mapping[str, StepResult]) -> list[str]:
    return [
        copy
        for result in results.values()
        if result.status == "done"
        for copy in result.outputs.get("safety", [])
    ]


def steps_of(plan: Plan, results: Mapping[str, StepResult]) -> list[dict[str, Any]]:
    """Each step's status and seconds, in the plan's order."""
    listed = []
    for step in plan.steps:
        result = results.get(step.id)
        if result is None:
            listed.append({"id": step.id, "status": "skipped", "seconds": 0})
            continue
        status = PUBLIC_STATUS.get(result.status, result.status)
        listed.append({"id": step.id, "status": status, "seconds": round(result.seconds or 0, 3)})
    return listed


def proofs_of(plan: Plan, results: Mapping[str, StepResult]) -> list[dict[str, Any]]:
    """For every source whether what was restored equals the snapshot."""
    proofs = []
    for step in plan.steps:
        if step.action == "recovery.prove":
            outputs = results[step.id].outputs if step.id in results else {}
            proofs.append(
                {
                    "source": step.params["source"],
                    "equal": outputs.get("equal"),
                    "differences": list(outputs.get("differences", [])),
                }
            )
    return proofs


def copies_of(plan: Plan, results: Mapping[str, StepResult]) -> list[dict[str, Any]]:
    """The target that each source was staged from, and those that could not serve."""
    return [
        {
            "source": step.params["source"],
            "target": results[step.id].outputs.get("target", step.params["target"]),
            "passed_over": list(results[step.id].outputs.get("passed_over", ())),
        }
        for step in plan.steps
        if step.action == "recovery.stage" and is_done(step.id, results)
    ]


def next_line(plan: Plan, finished: Finished) -> str | None:
    """The exact line that goes on; None when there is nothing to go on with."""
    if finished.exit_code == 0 or finished.run is None or plan.kind == "drill":
        return None
    waiting = next(
        (
            step.id
            for step in plan.steps
            if step.action == "person.ask"
            and step.id in finished.results
            and finished.results[step.id].status == "failed"
        ),
        None,
    )
    done = f" --done {waiting}" if waiting else ""
    line = resume_line(plan.kind, finished.run)
    return line and f"{line}{done}"
