"""The steps of a recovery that restore nothing: the spec's own commands, probes, people, messages.

A drill leaves out what it cannot do, and counts the time that it would take.
"""

from __future__ import annotations

from typing import Any

from runner.plan.model import Step
from runner.spec.model import RecoveryStep


def own_step(entry: RecoveryStep, *, drilled: bool) -> Step:
    """A run, a probe, a manual step or a notification, as it is to be done in this kind of plan."""
    params: dict[str, Any] = {"entry": entry.name}
    if entry.notify is not None:
        return _notify_step(entry, params, drilled=drilled)
    if drilled and (entry.manual is not None or entry.drill == "skip"):
        counted = entry.expected if entry.expected is not None else entry.timeout
        what = "manual" if entry.manual is not None else "drill: skip"
        return Step(
            id=entry.name,
            action="person.leave_out",
            title=f"Leave out {entry.name}",
            params={**params, "why": f"not drilled ({what})", "counted_seconds": counted},
        )
    if entry.manual is not None:
        if entry.checklist:
            params["checklist"] = list(entry.checklist)
        return Step(
            id=entry.name, action="person.ask", title=entry.manual, params=params, effect="writes"
        )
    if entry.probe is not None and (not drilled or entry.drill == "same"):
        return Step(
            id=entry.name,
            action="probe.ask",
            title=f"Probe {entry.name}",
            params=params,
            retries=entry.retries,
        )
    command = entry.drill if drilled and entry.drill != "same" else entry.run
    return Step(
        id=entry.name,
        action="command.run",
        title=f"Run {entry.name}",
        params={**params, "command": command},
        effect="writes",
        repeatable=False,
        retries=entry.retries,
    )


def _notify_step(entry: RecoveryStep, params: dict[str, Any], *, drilled: bool) -> Step:
    """A notification; a drill tells nobody, and that takes no time."""
    assert entry.notify is not None
    if drilled:
        return Step(
            id=entry.name,
            action="person.leave_out",
            title=f"Leave out {entry.name}",
            params={**params, "why": "a drill tells nobody", "counted_seconds": 0},
        )
    return Step(
        id=entry.name,
        action="notify.tell",
        title=f"Tell: {entry.notify.text}",
        params=params,
        effect="writes",
    )
