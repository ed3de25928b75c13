"""The story of a drill: what is supposed, what is chosen for it, and how it is judged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from runner.errors import UsageError
from runner.execute.call import Call
from runner.execute.session import Session
from runner.new_host import equipped, on_new_host
from runner.plan import scenario as scenarios
from runner.plan.choose import LATEST, Asked, choose
from runner.plan.model import Plan
from runner.plan.recover import recovery_entries
from runner.plan.scenario import Scenario
from runner.prepare import Choosing, Prepared, compile_wanted, wanted_recovery
from runner.report import recovered
from runner.secret import Secret
from runner.store.catalog import Catalog
from runner.store.view import by_age


@dataclass(frozen=True)
class Drilling:
    """What a person asked of a drill."""

    scenario: str = ""  # a name; empty: as the options say
    lost: str = ""  # a target, of the scenario target-lost
    incident: str = ""  # a time as typed; empty: when the drill begins
    report_folder: Path | None = None


def drill(call: Call, *, choosing: Choosing, asked: Drilling) -> Prepared:
    """The whole recovery into scratch instances, measured."""
    from runner.report.drill import Rehearsal, rehearse

    session = Session.open(call)
    spec = session.spec
    scenario = scenarios.scenario_of(
        spec, asked.scenario, asked.lost, choosing.snapshot, choosing.at
    )
    targets = scenarios.readable_targets(spec, scenario)
    session.remembers = scenario.name != scenarios.HOST_LOST
    if scenario.name == scenarios.KEY_LOST:
        given = None if call.identity is None else Secret(f"file:{call.identity}")
        scenarios.require_other_identity(spec, given)
    incident = _incident(session, asked.incident)
    catalog = session.catalog(targets, needed=[choosing.target or ""])
    sources = recovery_entries(spec, (), None)
    scenario = _dated(
        scenarios.drawn(scenario, catalog, sources, session.facts.token), asked.incident
    )
    scenario = replace(scenario, target=choosing.target or "")
    chosen = replace(choosing, snapshot=scenario.snapshot, at=scenario.at, targets=targets)
    acting, chosen = _acting(session, catalog, scenario, chosen)
    sources = recovery_entries(acting.spec, (), None)
    wanted = wanted_recovery(acting, "drill", sources, chosen)

    def in_scratch(folder: Path) -> Plan:
        plan = compile_wanted(acting, replace(wanted, scratch=folder))
        return plan if acting is session else equipped(plan, acting.spec)

    plan = in_scratch(spec.state / "scratch" / "drill")
    rehearsal = Rehearsal(scenario, catalog, incident, asked.report_folder)
    return Prepared(
        session,
        plan,
        recovered.recovery_outcome,
        carry_out=lambda: rehearse(session, in_scratch, rehearsal, acting),
    )


def _acting(
    session: Session, catalog: Catalog, scenario: Scenario, chosen: Choosing
) -> tuple[Session, Choosing]:
    """The session that recovers, and what from: for a lost host one that knows one target alone."""
    if scenario.name != scenarios.HOST_LOST:
        return session, chosen
    asked = Asked(chosen.snapshot, session.instant(chosen.at), chosen.target)
    choices = choose(session.spec, catalog, recovery_entries(session.spec, (), None), asked)
    newest = max(choices, key=lambda one: by_age(one.snapshot))
    acting = on_new_host(session, newest.snapshot, newest.target)
    return acting, replace(chosen, target=newest.target, targets=(newest.target,))


def _incident(session: Session, typed: str) -> datetime:
    from runner.spec.units import parse_time

    if not typed:
        return session.facts.now
    try:
        at = parse_time(typed, session.spec.timezone, session.facts.now)
    except ValueError as error:
        raise UsageError(f"--incident: {error}") from error
    if at > session.facts.now:
        raise UsageError("--incident is in the future.", remedy="Give a time that has passed.")
    return at


def _dated(scenario: Scenario, incident: str) -> Scenario:
    """What was captured after the incident is not there to recover from."""
    nothing_chosen = scenario.at is None and scenario.snapshot == LATEST
    return replace(scenario, at=incident) if incident and nothing_chosen else scenario
