"""What a person should know of a recovery before it begins, read off its plan: pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from runner.plan.model import Plan, Step
from runner.spec.units import format_duration

LIVE = ("restore", "dr-restore", "rollback")
OWN = ("command.run", "person.ask")


def skew_of(taken_at: Mapping[str, datetime]) -> dict[str, Any] | None:
    """How far apart the instants of the sources are; None for fewer than two sources."""
    if len(taken_at) < 2:
        return None
    oldest = min(taken_at, key=lambda name: (taken_at[name], name))
    newest = max(taken_at, key=lambda name: (taken_at[name], name))
    seconds = (taken_at[newest] - taken_at[oldest]).total_seconds()
    return {"seconds": round(seconds, 3), "oldest": oldest, "newest": newest}


def skew_words(plan: Plan) -> str | None:
    """The same for a person."""
    skew = plan.facts.get("skew")
    if not skew:
        return None
    if skew["seconds"] < 1:
        return "The sources are of one instant, to the second."
    apart = format_duration(round(skew["seconds"]))
    return (
        f"The sources are up to {apart} apart: {skew['oldest']} is the oldest, {skew['newest']} "
        "the newest. What one says of the other may not match."
    )


def point_of_no_return(plan: Plan) -> dict[str, Any] | None:
    """The first step that replaces something live, and what can be taken back after it.

    None for a plan that replaces nothing live.
    """
    if plan.kind not in LIVE:
        return None
    steps = [step for step in plan.steps if step.when == "success"]
    first = next((step for step in steps if step.effect == "destroys"), None)
    if first is None:
        return None
    at = steps.index(first)
    return {
        "step": first.id,
        "undoable": [step.params["source"] for step in steps if step.effect == "destroys"],
        "own_before": [step.id for step in steps[:at] if _is_own(step)],
        "own_after": [step.id for step in steps[at:] if _is_own(step)],
    }


def no_return_words(plan: Plan) -> Iterator[str]:
    """The same for a person."""
    point = point_of_no_return(plan)
    if point is None:
        return
    before, after = point["own_before"], point["own_after"]
    yield f"Up to `{point['step']}` nothing live is replaced, and the run can be stopped." + (
        f" Your own steps before it are not undone: {', '.join(before)}." if before else ""
    )
    yield (
        f"After it, {', '.join(point['undoable'])} can be put back with `dr-restore --rollback "
        "RUN`, while the safety copies exist."
    ) + (f" What {', '.join(after)} did cannot." if after else "")


def swap_words(name: str, where: str, include: Sequence[str]) -> str:
    """What is put where, and that it is a part only."""
    if include:
        return f"Put what matches {', '.join(include)} of {name} in its place in {where}"
    return f"Put {name} in its place: {where}"


def _is_own(step: Step) -> bool:
    return step.action in OWN
