"""A rekey for people: what it would do, and what it did."""

from __future__ import annotations

from collections.abc import Iterator

from runner.plan.model import Plan
from runner.report.outcome import Outcome
from runner.spec.units import format_duration, format_size

COPIED = (
    "Whoever copied the old files and has an old key can still read those copies, and a bucket "
    "that keeps old versions keeps them too. Change every password and key that was in them."
)
UNTRIED = (
    "No identity at hand opens what is encrypted to the declared recipients: if none of theirs is "
    "kept anywhere, nobody can open these snapshots again."
)


def rekey_lines(outcome: Outcome) -> Iterator[str]:
    """The outcome for a person."""
    data = outcome.data
    for one in data["rekeyed"]:
        yield f"encrypted {', '.join(one['replaces'])} anew as {one['id']} at " + ", ".join(
            one["targets"]
        )
    for one in data["removed"]:
        yield f"removed   {one['id']} at {one['target']}"
    for one in data["left"]:
        yield f"LEFT      {one['id']} at {one['target']}: {one['reason']}"
    for one in data["unread"]:
        yield f"NOT READ  {one['target']}: {one['reason']}"
    if not any(data[name] for name in ("rekeyed", "removed", "left", "unread")):
        yield "Every snapshot is for exactly the declared recipients. Nothing was done."
        return
    yield from (f"Note: {note}" for note in outcome.notes)
    yield f"Rekey {data['status']} in {format_duration(data['seconds'])}."


def rekey_danger(plan: Plan) -> tuple[str, ...]:
    """What a person agrees to; nothing where nothing is to be done."""
    told = plan.facts["snapshots"]
    if not told:
        return ()
    size = format_size(sum(one["bytes"] for one in told))
    targets = sorted({name for one in told for name in one["targets"]})
    count = f"{len(told)} snapshot" + ("s" if len(told) > 1 else "")
    what = f"This encrypts {count} ({size}) anew for exactly the declared recipients, and then"
    lines = [f"{what} removes the old ones from {', '.join(targets)}, for good."]
    plain = sum(one["plain"] for one in told)
    if plain:
        lines.append(f"{plain} of them {'is' if plain == 1 else 'are'} not encrypted by now.")
    for word, verb in (("lose", "can open them no more"), ("gain", "can open them from then on")):
        names = sorted({name for one in told for name in one[word]})
        if names:
            lines.append(f"{', '.join(names)} {verb}.")
    return (*lines, *(() if plan.facts["opens"] else (UNTRIED,)))
