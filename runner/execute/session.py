"""A session: one loaded spec, its targets and catalog, and the way from a plan to a run."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from runner.errors import SpecError, UsageError
from runner.execute import guards, journal, runs, settling
from runner.execute.call import Call
from runner.execute.context import Context, Runbook
from runner.execute.ending import Finished, Settings
from runner.execute.remembering import said_here
from runner.plan.choose import LATEST
from runner.plan.facts import Facts, look
from runner.plan.model import Plan
from runner.registry import open_target
from runner.secret import Secret
from runner.spec.load import load_spec
from runner.spec.model import Spec, TargetSpec
from runner.store.catalog import Catalog, read_catalog
from runner.target import Target


class _Opened(Mapping[str, Target]):
    """Targets by name. Nothing is asked of them yet."""

    def __init__(self, declared: Mapping[str, TargetSpec]) -> None:
        self._declared = declared
        self._open: dict[str, Target] = {}

    def __getitem__(self, name: str) -> Target:
        if name not in self._open:
            self._open[name] = open_target(self._declared[name])
        return self._open[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._declared)

    def __len__(self) -> int:
        return len(self._declared)


@dataclass
class Session:
    """One command's work on one spec."""

    call: Call
    spec: Spec
    facts: Facts = field(default_factory=look)
    remembers: bool = True  # whether the state folder's cache is used
    # reads the spec anew where it does not stand in its place; None: it does
    reload: Callable[[Mapping[str, str]], Spec] | None = None
    lost: Mapping[str, str] = field(default_factory=dict)  # said by env files that are not there
    runbook: Runbook | None = None  # what backups store of the recovery; None: nothing
    # raises what keeps a saved plan from being executed, once its locks are held
    require: Callable[[], None] = lambda: None

    @classmethod
    def open(cls, call: Call) -> Session:
        """Load the spec. Raises SpecError."""
        return cls(call, _loaded(call, {}))

    def complete(self, lost: Mapping[str, str]) -> None:
        """Read the spec again, with what lost env files said."""
        if lost:
            self.lost = lost
            self.spec = self.reload(lost) if self.reload else _loaded(self.call, lost)

    @cached_property
    def targets(self) -> Mapping[str, Target]:
        """All targets, each opened when it is used: one may need a variable that is not set."""
        origin = self.call.origin
        return _Opened(self.spec.targets if origin is None else {origin.name: origin})

    def catalog(
        self,
        names: Iterable[str] = (),
        *,
        profile: str | None = None,
        patience: float | None = None,
        glance: bool = False,
        needed: Container[str] | None = None,
    ) -> Catalog:
        """What the targets hold now; of those in `names`, if any; of `profile`, if given; as far as
        they answer within `patience` seconds. A `glance` is enough to show it: see `read_catalog`.

        Raises SpecError for a target that waits for a variable; with `needed` only for one of
        those: any other is out of reach.
        """
        if self.call.origin is not None:
            names = [self.call.origin.name]
        chosen = {self.spec.target(name).name for name in names}
        targets, waiting = dict[str, Target](), dict[str, str]()
        for name in self.targets:
            if chosen and name not in chosen:
                continue
            try:
                targets[name] = self.targets[name]
            except SpecError as error:
                if needed is None or name in needed:
                    raise
                waiting[name] = error.message
        profile = profile or self.spec.profile
        found = read_catalog(
            targets,
            self.spec.project,
            profile,
            cache=self.spec.state / "cache" if self.remembers else None,
            now=self.facts.now,
            patience=patience,
            glance=glance,
            said=said_here(self.spec, profile) if self.remembers else None,
        )
        return replace(found, unreachable={**found.unreachable, **waiting}) if waiting else found

    def instant(self, text: str | None) -> datetime | None:
        """The time that was typed; None for none, and for `latest`. Raises UsageError."""
        from runner.spec.units import parse_time

        if text is None or text == LATEST:
            return None
        try:
            return parse_time(text, self.spec.timezone, self.facts.now)
        except ValueError as error:
            raise UsageError(f"--at: {error}") from error

    def context(self, plan: Plan, run: str, scratch: Path | None = None) -> Context:
        """The surroundings for one run of a plan."""
        identity = None if self.call.identity is None else Secret(f"file:{self.call.identity}")
        return Context(
            spec=self.spec,
            plan=plan,
            run=run,
            identity=identity,
            confirm=self.call.confirm,
            signers_file=self.call.signers,
            unsigned=self.call.unsigned,
            scratch=scratch,
            reload=self.reload,
            lost=self.lost,
            runbook=self.runbook,
        )

    def aside(self, kind: str) -> Context:
        """The surroundings of who looks at something, and executes no plan."""
        spec = self.spec
        return self.context(Plan(kind, spec.project, spec.profile, spec.digest, ()), "")

    def settings(
        self, details: Callable[[Finished], Mapping[str, Any]] = lambda _finished: {}
    ) -> Settings:
        """How this command executes."""
        again = self.call.again if self.call.origin is not None else ""
        return Settings(self.call.listeners, self.call.wait, self.require, details, again)

    def settle(self, *, but: str | None = None) -> list[Finished]:
        """Take back what killed runs left half done, except the one that is to be resumed."""
        return settling.settle_killed(self.context, self.spec.state, self.settings(), but=but)

    def execute(
        self,
        plan: Plan,
        *,
        scratch: Path | None = None,
        details: Callable[[Finished], Mapping[str, Any]] = lambda _finished: {},
    ) -> Finished:
        """Run a plan, after what killed runs left was taken back.

        Raises PersonNeeded for a stale one.
        """
        guards.require_same_destinations(plan, self.spec)
        # What is put back is not what the plan saw, and yet what it was made for.
        taken_back = self.settle()
        context = self.context(plan, self.facts.run_id(plan.kind), scratch)
        return runs.execute(plan, context, self.settings(details), guarded=not taken_back)

    def resume(
        self,
        run: str,
        *,
        reported: Iterable[str] = (),
        by: str = "",
        again: Iterable[str] = (),
        details: Callable[[Finished], Mapping[str, Any]] = lambda _finished: {},
    ) -> Finished:
        """Go on with a run that ended early. `by` did what is `reported`; empty: who runs this."""
        self.settle(but=run)
        plan = journal.read_plan(self.spec.state, run)
        context = self.context(plan, run)
        name = by or f"{who()}@{self.facts.host}"
        context.reported = {step: {"by": name} for step in reported}
        return runs.resume(context, self.settings(details), again=again)


def _loaded(call: Call, lost: Mapping[str, str]) -> Spec:
    spec = load_spec(call.file, call.profile, unset="keep", lost=lost)
    if call.origin is None:
        return spec
    return replace(spec, targets={**_known(spec), call.origin.name: call.origin})


def _known(spec: Spec) -> dict[str, TargetSpec]:
    """The targets that wait for no variable: one that does cannot even be asked where it is."""
    waiting = {problem.path.split(".")[1] for problem in spec.unset if "targets." in problem.path}
    return {name: one for name, one in spec.targets.items() if name not in waiting}


def who() -> str:
    """The user who runs this, for the record."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
