"""A plan for people: each step with its reason and what one would type."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from runner.durable import write_bytes
from runner.errors import UsageError
from runner.execute.actions import action_named
from runner.plan.model import Plan, Step, canonical
from runner.plan.telling import no_return_words, point_of_no_return, skew_words
from runner.report.outcome import Outcome
from runner.spec.model import Spec


def planned(
    spec: Spec, plan: Plan, file: Path | None, *, confirm: str | None = None, again: str = ""
) -> Outcome:
    """The plan as an outcome: nothing was done. It is saved to `file`, if one is given.

    Who applies it must `confirm` that name, and give the flags that every further line needs.
    """
    if file is not None:
        try:
            write_bytes(file.absolute(), canonical(plan.as_json()) + b"\n")
        except OSError as error:
            raise UsageError(f"The plan cannot be saved: {error}.") from error
    steps = [_step(spec, step) for step in plan.steps]
    data = {
        "plan": plan.id,
        "kind": plan.kind,
        "project": plan.project,
        "profile": plan.profile,
        "steps": steps,
        "skew": plan.facts.get("skew"),
        "point_of_no_return": point_of_no_return(plan),
        "saved": None if file is None else str(file),
        "next": None if file is None else _apply_line(file, confirm, again),
    }
    words = skew_words(plan)
    notes = (*([words] if words else ()), *no_return_words(plan))
    return Outcome("plan", data, notes=notes)


def _apply_line(file: Path, confirm: str | None, again: str) -> str:
    asked = ["--confirm", confirm] if confirm else []
    line = f"holdfast apply {shlex.join(['--plan', str(file), *asked])}"
    return f"{line} {again}" if again else line


def _step(spec: Spec, step: Step) -> dict[str, Any]:
    return {
        "id": step.id,
        "action": step.action,
        "title": step.title,
        "effect": step.effect,
        "when": step.when,
        "needs": list(step.needs),
        "after": list(step.after),
        "reason": step.reason,
        "commands": action_named(step.action).commands(step, spec),
    }
