"""The runbook: the recovery plan for a person who has no Holdfast at hand.

Its `sh` blocks, run in order by `bash -e`, do what `dr-restore` does, with ordinary tools.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from runner.durable import make_folder, write_bytes
from runner.execute.actions import action_named
from runner.execute.session import Session
from runner.plan.choose import Asked, choose
from runner.plan.facts import manifests
from runner.plan.model import Plan, Step
from runner.plan.recover import Wanted, compile_recovery, recovery_entries
from runner.registry import open_source
from runner.report.env_lines import READER, load_lines
from runner.report.markdown import fence, table, text
from runner.report.outcome import Outcome, stamp
from runner.spec.model import Spec
from runner.spec.units import format_duration
from runner.store.instructions import programs_in
from runner.store.records import ODD, DrillResult

# Steps that only the tool needs: they stage beside, and tidy up after themselves.
LEFT_TO_THE_TOOL = ("recovery.unswap", "recovery.discard", "recovery.prove", "recovery.confirm")

VARIABLE = re.compile(r"\b[A-Z_]{6,}\b")


def write_runbook(session: Session, file: Path | None) -> Outcome:
    """Compile the recovery, render it, and write it to `file` or give it back to be printed."""
    plan = compile_for_person(session)
    return written(render(session.spec, plan, measured(plan, session.catalog().drills)), file)


def written(document: str, file: Path | None) -> Outcome:
    """A runbook in `file`, as a page if it is named like one; None: to be printed."""
    if file is None:
        return Outcome("runbook", {"document": document}, notes=tuple(document.splitlines()))
    from runner.report.page import page

    make_folder(file.parent)
    is_page = file.suffix.lower() in (".html", ".htm")
    # A file's name may hold bytes that are no text, and the shell needs them as they are.
    data = (page(document) if is_page else document).encode("utf-8", "surrogateescape")
    write_bytes(file, data)
    return Outcome("runbook", {"file": str(file)}, notes=(f"Written to {file}.",))


def compile_for_person(session: Session) -> Plan:
    """The recovery from the newest snapshots."""
    spec = session.spec
    sources = recovery_entries(spec, (), None)
    wanted = Wanted("dr-restore", choose(spec, session.catalog(), sources, Asked()), spec.profile)
    pairs = [(one.snapshot.id, one.target) for one in wanted.choices]
    facts = replace(session.facts, manifests=manifests(spec, session.targets, pairs))
    return compile_recovery(spec, facts, wanted)


def measured(plan: Plan, drills: Sequence[DrillResult]) -> dict[str, float]:
    """The seconds that the newest drill which knows took for each source, by its stage step.

    By hand it takes longer; it is what the machine alone needs.
    """
    found: dict[str, float] = {}
    for step in plan.steps:
        if step.action == "recovery.stage":
            known = (_spent(one, step.params["source"]) for one in drills)
            seconds = next((one for one in known if one), None)
            if seconds is not None:
                found[step.id] = seconds
    return found


def _spent(drill: DrillResult, source: str) -> float | None:
    # A record is whatever somebody wrote to a target.
    with suppress(*ODD):
        return sum(map(float, drill.details["sources"][source].values()))
    return None


def render(
    spec: Spec,
    plan: Plan,
    seconds: Mapping[str, float] | None = None,
    about: Sequence[str] = (),
) -> str:
    """The runbook of a plan, with the measured seconds of some of its steps, and what is to be
    known of what comes back: pure.
    """
    lines = [
        f"# Recovery of {text(spec.project)} ({text(spec.profile)})",
        "",
        (
            "For a person on a machine with bash and ordinary tools, without Holdfast. Do the "
            "steps in order. Every block can be pasted into a shell; all of them together are a "
            "script for `bash -e`."
        ),
        "",
        "## What comes back",
        "",
        *_snapshots(plan),
        "",
        *(part for one in about for part in (one, "")),
        *_contacts(spec),
        "## Decide first",
        "",
        *_decisions(spec, plan),
        "",
        "## Before you begin",
        "",
        *_needs(spec, plan),
        "",
        *fence(_prologue(spec)),
        "",
        *_all_steps(spec, plan, seconds or {}),
        "## Afterwards",
        "",
        "- Look at every service as its users do. Only then is it recovered.",
        (
            "- What was replaced is kept beside it, named `*.before-recovery`: to undo a step, "
            "move it back."
        ),
        "- The folder named by RECOVERY holds the fetched snapshots and may be removed.",
    ]
    return "\n".join(lines) + "\n"


def _snapshots(plan: Plan) -> Iterable[str]:
    places = {
        step.params["source"]: step.params["location"]
        for step in plan.steps
        if step.action == "recovery.stage"
    }
    taken = {name: datetime.fromisoformat(at) for name, at in plan.facts["taken_at"].items()}
    rows = [
        (source, snapshot, str(stamp(taken[source])), places[source])
        for source, snapshot in plan.facts["snapshots"].items()
    ]
    return table(("Source", "Snapshot", "Content of", "Where it lies"), rows)


def _needs(spec: Spec, plan: Plan) -> Iterable[str]:
    objective = spec.objectives.get("system")
    if objective is not None and objective.rto is not None:
        yield f"- The promise: everything is back within {format_duration(objective.rto)}."
    shown = [step for step in plan.steps if step.action not in LEFT_TO_THE_TOOL]
    typed = [(step, action_named(step.action).commands(step, spec)) for step in shown]
    lines = [line for _, commands in typed for line in commands]
    yield f"- Programs: {'; '.join(['bash', 'coreutils', *programs_in(lines)])}."
    yield from (f"- {text(one)}" for one in dict.fromkeys(_to_be_set(typed)))
    if spec.encryption is None:
        yield "- Nothing is encrypted."
        return
    identity = spec.encryption.identity
    where = f" (declared as {text(identity.reference)})" if identity else ""
    yield f"- The identity that opens what is encrypted{where}. The key of any one of these does:"
    yield from (f"  - {text(recipient)}" for recipient in spec.encryption.recipients)


def _to_be_set(typed: Iterable[tuple[Step, Sequence[str]]]) -> Iterator[str]:
    """What a person puts into variables, as it stands at the steps that read them."""
    for step, commands in typed:
        if step.action not in ("recovery.stage", "recovery.swap"):
            continue
        mine = f"For {step.params['source']}: " if step.action == "recovery.swap" else ""
        for one in commands:
            if _is_instruction(one) and VARIABLE.search(one):
                yield f"{mine}{one.lstrip('# ')}"


def _prologue(spec: Spec) -> list[str]:
    lines = ["set -eu", 'export RECOVERY="${RECOVERY:-$PWD/recovery}"']
    if spec.encryption is not None:
        lines.append(': "${AGE_IDENTITY:?name the file of the age identity in AGE_IDENTITY}"')
    if spec.env_files:
        lines += ["# reads an env file as it is written: nothing in it is expanded or run", *READER]
    return lines


def _contacts(spec: Spec) -> Iterable[str]:
    if spec.contacts:
        yield from ("## Whom to call", "")
        yield from (f"- {text(one)}" for one in spec.contacts)
        yield ""


def _decisions(spec: Spec, plan: Plan) -> Iterable[str]:
    """What a person must decide, each before the step from which there is no easy way back."""
    swap = next((step for step in plan.steps if step.action == "recovery.swap"), None)
    yield "- Is it a disaster? If one source is damaged, restore that one alone."
    yield "- Is the newest snapshot the right one? What is wrong may have been backed up too."
    used = {step.params["target"] for step in plan.steps if step.action == "recovery.stage"}
    others = [name for name in spec.targets if name not in used]
    if others:
        yield (
            f"- If {', '.join(sorted(map(text, used)))} cannot be read or a checksum is wrong: "
            f"{', '.join(map(text, others))} may hold the same snapshots, under the same names."
        )
    if swap is not None:
        yield (
            f"- Until the step “{text(swap.title)}” nothing that is there is replaced, though "
            "commands of the steps before it ran. From there on each step keeps what it replaces: "
            "go on to the end, or undo the steps that were done."
        )


def _all_steps(spec: Spec, plan: Plan, seconds: Mapping[str, float]) -> Iterable[str]:
    shown = [step for step in plan.steps if step.action not in LEFT_TO_THE_TOOL]
    for number, step in enumerate(shown, 1):
        yield f"## {number}. {text(step.title)}"
        yield ""
        yield f"- [ ] done at ______ by ______{_expected(step, seconds.get(step.id))}"
        if step.action == "recovery.swap":
            yield f"- To undo it: {text(_undo(spec, step))}"
        if step.when == "failure":
            yield "- Only if a step before it failed; it is no part of the script."
        yield ""
        yield from _block(spec, step, action_named(step.action).commands(step, spec))


def _undo(spec: Spec, step: Step) -> str:
    source = open_source(spec.source(step.params["source"]))
    return f"move what is named *.before-recovery back over {source.describe()}"


def _expected(step: Step, measured_seconds: float | None) -> str:
    if measured_seconds is not None:
        return f" (until it stood proven, the last drill took {_rough(measured_seconds)})"
    seconds = step.expected if step.expected is not None else step.timeout
    return "" if seconds is None else f" (expected: {format_duration(seconds)})"


def _rough(seconds: float) -> str:
    return format_duration(round(seconds) if seconds >= 10 else round(seconds, 1))


def _block(spec: Spec, step: Step, commands: Sequence[str]) -> Iterable[str]:
    words = [one.lstrip("# ") for one in commands if _is_instruction(one)]
    lines = [line for one in commands if not _is_instruction(one) for line in one.split("\n")]
    for word in words:
        yield f"- {text(word)}"
    if words:
        yield ""
    if lines:
        language = "text" if step.when == "failure" else "sh"
        yield from fence(["(", *_surroundings(spec, step), *lines, ")"], language)
        yield ""


def _is_instruction(command: str) -> bool:
    """Whether it is for a person alone. What looks like a comment may be part of a text."""
    return all(line.startswith("#") for line in command.split("\n"))


def _surroundings(spec: Spec, step: Step) -> list[str]:
    """Where a step's lines run: what is unpacked lies in its snapshot's folder."""
    if step.action == "recovery.swap":
        return [f'cd "$RECOVERY"/{step.params["snapshot"]}']
    if step.action.startswith("recovery."):
        return []
    folder = shlex.quote(str(spec.folder))
    return ["set -o pipefail", f"mkdir -p {folder}", f"cd {folder}", *load_lines(spec.env_files)]
