"""Compiles restore, dr-restore and drill: one plan, in the order of the spec's `recovery`.

For every source: stage beside, prove, check, (stop the services,) swap, confirm. The undo of a
swap runs when the swap or its confirmation failed; a service starts again, and staging goes,
whatever happened. A drill is the same plan with every destination inside a scratch folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from runner.errors import StepFailed, UsageError
from runner.plan.choose import Choice
from runner.plan.facts import Facts
from runner.plan.model import Plan, Step
from runner.plan.services import services_of, start_step, stop_step
from runner.plan.telling import skew_of, swap_words
from runner.registry import open_source, open_target
from runner.spec.model import Objective, RecoveryStep, Spec
from runner.store.snapshot import ArtifactEntry, folder_of


@dataclass(frozen=True)
class Wanted:
    """What the user asked of a recovery."""

    kind: str  # restore | dr-restore | drill
    choices: Sequence[Choice]
    profile: str  # whose snapshots they are; the spec's own, unless another was asked for
    scratch: Path | None = None  # of a drill
    steps: Sequence[str] = ()  # names of recovery entries; empty: all
    start_at: str | None = None  # the recovery entry to begin with
    destination: str = ""  # of a single restore; empty: the source's own place
    include: Sequence[str] = ()
    running: bool = False
    existing: str = "skip"
    doubts: Sequence[str] = ()  # why these may not be the newest snapshots


@dataclass
class _Builder:
    """Collects the steps of one recovery."""

    spec: Spec
    facts: Facts
    wanted: Wanted
    steps: list[Step] = field(default_factory=list)
    barrier: tuple[str, ...] = ()  # what the next entry needs
    stopped: dict[str, str] = field(default_factory=dict)  # service: its stop step
    placed: list[str] = field(default_factory=list)  # sources that the plan has placed

    def add(self, step: Step) -> str:
        self.steps.append(step)
        return step.id


def compile_recovery(spec: Spec, facts: Facts, wanted: Wanted) -> Plan:
    """The plan of a recovery. Pure. Raises UsageError for an entry that is not there."""
    builder = _Builder(spec, facts, wanted)
    for entry in _entries(spec, wanted):
        _entry(builder, entry)
    return Plan(
        kind=wanted.kind,
        project=spec.project,
        profile=spec.profile,
        spec_digest=spec.digest,
        steps=tuple(builder.steps),
        facts={
            "snapshots": {one.source: one.snapshot.id for one in wanted.choices},
            "taken_at": {
                one.source: one.snapshot.sources[one.source].taken_at.isoformat()
                for one in wanted.choices
            },
            "skew": skew_of(
                {one.source: one.snapshot.sources[one.source].taken_at for one in wanted.choices}
            ),
            "destination": wanted.destination,
            "resolved": spec.resolved,
            "doubts": list(wanted.doubts),
        },
        objectives={name: _objective(one) for name, one in spec.objectives.items()},
    )


def recovery_entries(spec: Spec, wanted_steps: Sequence[str], start_at: str | None) -> list[str]:
    """The names of the sources that a recovery with these flags restores."""
    entries = _selected(spec, wanted_steps, start_at)
    return [name for entry in entries for name in entry.restore]


def _entries(spec: Spec, wanted: Wanted) -> Sequence[RecoveryStep]:
    if wanted.kind == "restore":
        names = tuple(choice.source for choice in wanted.choices)
        return [RecoveryStep(name=f"restore-{'-'.join(names)}", restore=names)]
    return _selected(spec, wanted.steps, wanted.start_at)


def _selected(spec: Spec, names: Sequence[str], start_at: str | None) -> Sequence[RecoveryStep]:
    known = [entry.name for entry in spec.recovery]
    unknown = [name for name in (*names, *([start_at] if start_at else [])) if name not in known]
    if unknown:
        raise UsageError(
            f"There is no recovery step `{unknown[0]}`.", remedy=f"Known: {', '.join(known)}."
        )
    first = known.index(start_at) if start_at else 0
    return [one for one in spec.recovery[first:] if not names or one.name in names]


def _objective(objective: Objective) -> dict[str, Any]:
    return {"rto": objective.rto, "rpo": objective.rpo}


def _entry(builder: _Builder, entry: RecoveryStep) -> None:
    if entry.restore:
        _wave(builder, entry)
        return
    step = _own_step(builder, entry)
    ordinary = entry.when == "success"
    builder.add(
        replace(
            step,
            needs=builder.barrier if ordinary else (),
            after=() if ordinary else tuple(one.id for one in builder.steps),
            when=entry.when,
            timeout=entry.timeout,
            expected=entry.expected,
            phase="serve" if builder.placed else "provision",
            reason="the spec's recovery asks for it here",
        )
    )
    if ordinary:
        builder.barrier = (step.id,)
    elif entry.when == "always":
        # What comes after it in the order waits for it, and for success up to there.
        builder.barrier = (*builder.barrier, step.id)


def _own_step(builder: _Builder, entry: RecoveryStep) -> Step:
    """A run, a probe or a manual step, as it is to be done in this kind of plan."""
    drilled = builder.wanted.kind == "drill"
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


def _wave(builder: _Builder, entry: RecoveryStep) -> None:
    chosen = {choice.source: choice for choice in builder.wanted.choices}
    names = [name for name in entry.restore if name in chosen]
    checked = {name: _prepare(builder, chosen[name], entry) for name in names}
    stops = _stop_services(builder, names, checked)
    ends: list[str] = []
    for name in names:
        needs = (checked[name], *(stop for service, stop in stops.items()
                                  if name in builder.spec.services[service].sources))  # fmt: skip
        ends.append(_place(builder, chosen[name], needs))
    builder.placed += names
    ends += _start_services(builder)
    builder.barrier = tuple(ends) or builder.barrier


def _place_params(builder: _Builder, choice: Choice) -> dict[str, Any]:
    """Where and how: what every step of one source shares."""
    spec, wanted = builder.spec, builder.wanted
    source = open_source(spec.source(choice.source))
    destination = wanted.destination
    if wanted.scratch is not None:
        destination = source.scratch_destination(wanted.scratch / choice.source)
    return {
        "source": choice.source,
        "destination": destination,
        "include": list(wanted.include),
        "running": wanted.running,
        "existing": wanted.existing,
    }


def _stored(builder: _Builder, choice: Choice) -> list[ArtifactEntry]:
    """The artifacts of a source. Raises StepFailed where the manifest lists no content of it."""
    stored = builder.facts.manifests[choice.snapshot.id].content_of(choice.source)
    if not stored:
        raise StepFailed(
            f"The manifest of {choice.snapshot.id} at {choice.target} lists no content of "
            f"{choice.source}.",
            remedy="It was changed: `verify` it, and choose another snapshot.",
        )
    return stored


def _stage(
    builder: _Builder, choice: Choice, entry: RecoveryStep, place: Mapping[str, Any]
) -> Step:
    """An entry's limits are of staging, which alone waits for others and takes long."""
    spec, name, profile = builder.spec, choice.source, builder.wanted.profile
    target = open_target(spec.target(choice.target))
    return Step(
        id=f"{name}.stage",
        action="recovery.stage",
        title=f"Fetch {name} from {choice.target} and stage it beside its place",
        params={
            **place,
            "snapshot": choice.snapshot.id,
            "profile": profile,
            "target": choice.target,
            "manifest_sha256": choice.snapshot.manifest_sha256,
            "location": target.location(folder_of(spec.project, profile, choice.snapshot.id)),
            "stored": [
                {"part": one.part, "form": one.form, "key": one.key}
                for one in _stored(builder, choice)
            ],
        },
        needs=builder.barrier,
        effect="writes",
        timeout=entry.timeout,
        expected=entry.expected,
        retries=entry.retries,
        phase="restore",
        reason=choice.reason,
    )


def _prepare(builder: _Builder, choice: Choice, entry: RecoveryStep) -> str:
    """Stage, prove and check one source; return the step after which it may be placed."""
    spec, name = builder.spec, choice.source
    place = _place_params(builder, choice)
    profile = builder.wanted.profile
    stage = builder.add(_stage(builder, choice, entry, place))
    proof = {
        **place,
        "snapshot": choice.snapshot.id,
        "profile": profile,
        "target": choice.target,
    }
    prove = builder.add(
        Step(
            id=f"{name}.prove",
            action="recovery.prove",
            title=f"Prove that the staged {name} equals the snapshot",
            params=proof,
            needs=(stage,),
            phase="verify",
            reason="restored means equal, not that a command ended with 0",
        )
    )
    if name not in spec.checks or builder.wanted.include:
        return prove
    return builder.add(
        Step(
            id=f"{name}.check",
            action="recovery.check",
            title=f"Ask the staged {name} the spec's checks",
            params=proof,
            needs=(prove,),
            phase="verify",
            reason="a backup can be intact and dead: emptied, stale, of something else",
        )
    )


def _in_place(builder: _Builder) -> bool:
    """Whether live sources are replaced, so that their services matter."""
    wanted = builder.wanted
    return wanted.scratch is None and not wanted.destination and not wanted.running


def _stop_services(
    builder: _Builder, names: Sequence[str], checked: Mapping[str, str]
) -> dict[str, str]:
    stops: dict[str, str] = {}
    if not _in_place(builder):
        return stops
    for service in services_of(builder.spec, names):
        if service.name not in builder.stopped:
            step = stop_step(service, tuple(checked.values()))
            builder.stopped[service.name] = builder.add(step)
        stops[service.name] = builder.stopped[service.name]
    return stops


def _start_services(builder: _Builder) -> list[str]:
    """Start steps of the services whose sources the plan has all placed by now."""
    planned = {choice.source for choice in builder.wanted.choices}
    started = []
    for name in builder.stopped:
        service = builder.spec.services[name]
        sources = [one for one in service.sources if one in planned]
        known = any(step.id == f"{name}.start" for step in builder.steps)
        if not known and set(sources) <= set(builder.placed):
            started.append(builder.add(start_step(service, sources)))
    return started


def _place(builder: _Builder, choice: Choice, needs: tuple[str, ...]) -> str:
    """Swap and confirm one source, with the undo; return the step that ends it."""
    name = choice.source
    params = _place_params(builder, choice)
    where = params["destination"] or open_source(builder.spec.source(name)).describe()
    swap = Step(
        id=f"{name}.swap",
        action="recovery.swap",
        title=swap_words(name, where, params["include"]),
        params={
            **params,
            "snapshot": choice.snapshot.id,
            "identity": builder.facts.identities.get(name),
        },
        needs=needs,
        effect="destroys",
        locks=("swap",),
        phase="restore",
        reason="what is there now is kept as a safety copy",
    )
    confirm = Step(
        id=f"{name}.confirm",
        action="recovery.confirm",
        title=f"Confirm that {name} stands in its place",
        params=params,
        needs=(swap.id,),
        phase="verify",
        reason="the swap is undone unless this holds",
    )
    unswap = Step(
        id=f"{name}.unswap",
        action="recovery.unswap",
        title=f"Put back what {name} was before",
        params=params,
        after=(swap.id, confirm.id),
        effect="destroys",
        when="failure",
        undoes=swap.id,
        reason="runs only if the swap did not end well",
    )
    discard = Step(
        id=f"{name}.discard",
        action="recovery.discard",
        title=f"Remove what was staged for {name}",
        params=params,
        after=(f"{name}.stage", f"{name}.prove", swap.id, confirm.id, unswap.id),
        effect="writes",
        when="always",
        undoes=f"{name}.stage",
        reason="nothing is left behind but the safety copy",
    )
    for step in (swap, confirm, unswap, discard):
        builder.add(step)
    return confirm.id
