"""What a person would lose by a destructive run, in words, and the name that they must type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.plan.facts import existing, host_name
from runner.plan.model import Plan
from runner.plan.telling import no_return_words, point_of_no_return, skew_words
from runner.registry import open_source
from runner.report.rekey_words import rekey_danger
from runner.report.target_words import counted
from runner.source import Place, Source
from runner.spec.units import format_duration, format_size

if TYPE_CHECKING:
    from runner.execute.kept import Note
    from runner.execute.session import Session

Found = tuple[str, tuple[str, ...]]


def plan_danger(session: Session, plan: Plan) -> Found | None:
    """The danger of a plan, from the plan alone; None when nothing that exists is replaced."""
    spec = session.spec
    if plan.kind == "delete":
        return plan.facts["snapshot"], tuple(_removal(plan))
    if plan.kind == "rekey":
        told_of = rekey_danger(plan)
        return (spec.project, told_of) if told_of else None
    if plan.kind == "rollback":
        from runner.execute.kept import read_notes

        told = _taken_back(plan, session.facts.now, read_notes(spec.state))
        return spec.project, (*told, *no_return_words(plan))
    if plan.kind == "safety":
        let_go = [step.params for step in plan.steps if step.params["copies"]]
        return (spec.project, tuple(_let_go(let_go))) if let_go else None
    if plan.kind not in ("restore", "dr-restore"):
        return None
    if point_of_no_return(plan) is None:
        names = ", ".join(step.id for step in plan.steps)
        line = f"On {host_name()}, this does {names} of {spec.project} ({spec.profile}) for real."
        return spec.project, (line, "No source is replaced. What these steps do is not undone.")
    taken = plan.facts["taken_at"]
    if plan.facts["destination"]:
        return _elsewhere(session, next(iter(taken)), plan.facts["destination"])
    lines = [f"On {host_name()}, this replaces live content of {spec.project} ({spec.profile})."]
    lines += _losses(session, taken, list(taken))
    lines += plan.facts["doubts"]
    lines += [words] if (words := skew_words(plan)) else []
    lines.append("What is there now is kept as a safety copy.")
    lines += no_return_words(plan)
    name = spec.project if plan.kind == "dr-restore" else next(iter(taken))
    return name, tuple(lines)


def _elsewhere(session: Session, name: str, destination: str) -> Found | None:
    """The danger of a restore to another place; None when nothing that exists is replaced."""
    if not _occupied(open_source(session.spec.source(name)), destination):
        return None
    line = f"On {host_name()}, {destination} exists and would be replaced."
    return name, (line, "What it is now is kept as a safety copy.")


def _taken_back(plan: Plan, now: datetime, notes: Sequence[Note]) -> Iterator[str]:
    """What taking a run back would lose."""
    yield f"On {host_name()}, this takes back what {plan.facts['run']} restored."
    for name, one in plan.facts["replaced"].items():
        age = (now - datetime.fromisoformat(one["at"])).total_seconds()
        yield (
            f"What {name} ({one['where']}) has taken in since then, for up to "
            f"{format_duration(round(max(0.0, age)))}, would be gone from it."
        )
        later = [two for two in notes if two.source == name and two.run != plan.facts["run"]
                 and two.at > one["at"]]  # fmt: skip
        if later:
            yield f"{name} was replaced again since, by {later[-1].run}."
    yield "What is there now is kept as a safety copy."


def _let_go(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What letting safety copies go would lose."""
    count = sum(len(one["copies"]) for one in rows)
    size = format_size(sum(copy["bytes"] for one in rows for copy in one["copies"]))
    copies = "1 safety copy" if count == 1 else f"{count} safety copies"
    runs = counted(len({one["run"] for one in rows}), "run")
    yield f"On {host_name()}, this removes {copies} of {runs} ({size}), for good."
    yield "What they replaced cannot be put back any more."


def _removal(plan: Plan) -> list[str]:
    facts = plan.facts
    lines = [f"This removes {facts['snapshot']} from {', '.join(facts['targets'])}, for good."]
    lines += [
        f"Its manifest at {target} is damaged ({reason}): nobody can say what it holds there."
        for target, reason in facts["damaged"].items()
    ]
    lines += [f"{target} cannot be read: a copy there stays." for target in facts.get("unread", ())]
    lines += [
        f"{one} has the same content, for other recipients, and stays."
        for one in facts.get("same", ())
    ]
    return lines


def _losses(session: Session, taken: dict[str, str], sources: Sequence[str]) -> list[str]:
    now = session.facts.now
    there = existing(session.spec, sources)
    lines = []
    for name in sources:
        where = open_source(session.spec.source(name)).describe()
        if not there[name]:
            lines.append(f"{name} ({where}) does not exist now.")
            continue
        age = (now - datetime.fromisoformat(taken[name])).total_seconds()
        lines.append(
            f"Live {name} ({where}) may be {format_duration(round(max(0.0, age)))} newer than "
            "this snapshot."
        )
    return lines


def _occupied(source: Source, destination: str) -> bool:
    if not source.paths:
        # Nothing is restored yet, so any token does.
        return source.identity(Place("look", destination)) != "absent"
    path = Path(destination)
    if path.is_dir():
        return any(path.iterdir())
    return path.exists() or path.is_symlink()
