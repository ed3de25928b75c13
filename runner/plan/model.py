"""The plan: immutable, hashable, saved and shown as JSON, executed later."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

EFFECTS = ("reads", "writes", "destroys")
WHENS = ("success", "failure", "always")

# A step that holds the lock of a target waits for that target most of its time: it runs beside
# what `parallel` bounds, one after another at each target.
TARGET_LOCK = "target:"


@dataclass(frozen=True)
class Step:
    """One action with its parameters, order and undo."""

    id: str  # readable, unique in the plan, the journal's key: "nightly.db.capture"
    action: str  # names an executor: "source.capture"
    title: str  # an imperative sentence; the runbook's heading
    params: Mapping[str, Any] = field(default_factory=dict)  # JSON; a secret only as a reference
    needs: tuple[str, ...] = ()  # these must be done first
    after: tuple[str, ...] = ()  # these must have ended first, however they did
    effect: str = "reads"
    when: str = "success"  # failure: if one of `after` was not done; always: whatever happened
    undoes: str | None = None  # runs only if that step was started
    repeatable: bool = True  # if it was interrupted, it may go on, or run again, unasked
    timeout: float | None = None  # seconds
    expected: float | None = None  # seconds
    retries: int = 0
    locks: tuple[str, ...] = ()  # steps that name the same lock never run together
    phase: str = ""  # provision | restore | verify | serve: what its time counts as
    reason: str = ""  # why it is in the plan; not part of the plan's id

    @property
    def waits_for(self) -> str | None:
        """The lock of the target that the step mostly waits for, if any."""
        return next((lock for lock in self.locks if lock.startswith(TARGET_LOCK)), None)


@dataclass(frozen=True)
class Plan:
    """Steps in order. Its id is the hash of everything but the reasons."""

    kind: str  # backup | restore | dr-restore | rollback | drill | prune | safety | verify | rekey
    project: str
    profile: str
    spec_digest: str
    steps: tuple[Step, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)  # what the compiler branched on
    objectives: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """sha256 of the canonical JSON, without reasons."""
        steps = [{**vars(step), "reason": ""} for step in self.steps]
        return hashlib.sha256(canonical({**vars(self), "steps": steps})).hexdigest()

    def step(self, step_id: str) -> Step:
        """The step of that id. Raises KeyError."""
        return next(step for step in self.steps if step.id == step_id)

    def as_json(self) -> dict[str, Any]:
        """The saved form, with the id that it must still have when it is read again."""
        steps = [dict(vars(step)) for step in self.steps]
        return {"format": 1, "id": self.id, **vars(self), "steps": steps}


def canonical(value: Any) -> bytes:
    """The one JSON text of a value: sorted keys, no spaces, UTF-8."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=list
    ).encode()


def plan_from_json(document: Any) -> Plan:
    """Read a saved plan. Raises ValueError when it is none, or was changed since."""
    if not isinstance(document, Mapping) or document.get("format") != 1:
        raise ValueError("this is not a saved plan of format 1")
    fields: dict[str, Any] = {k: v for k, v in document.items() if k not in ("format", "id")}
    tuples = ("needs", "after", "locks")
    try:
        steps = []
        for one in fields.pop("steps"):
            values: dict[str, Any] = {k: tuple(v) if k in tuples else v for k, v in one.items()}
            steps.append(Step(**values))
        plan = Plan(steps=tuple(steps), **fields)
        found = plan.id
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"this is not a whole plan: {error}") from error
    if found != document.get("id"):
        raise ValueError("its content does not match its id: it was changed after it was saved")
    return plan
