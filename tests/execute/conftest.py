"""A run of a plan made of trial actions, in a folder of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.execute import runs
from runner.execute.context import Context
from runner.execute.ending import Finished, Settings
from runner.plan.model import Plan, Step
from runner.spec.load import load_spec
from runner.spec.model import Spec
from tests.execute import trial
from tests.spec.builders import write_spec

RUN = "20261120T021500Z-trial-7f3a9c"


@pytest.fixture(autouse=True)
def log(monkeypatch: pytest.MonkeyPatch) -> trial.Log:
    """What the trial actions of this test do."""
    monkeypatch.setitem(sys.modules, "runner.execute.actions.trial", trial)
    monkeypatch.setattr(trial, "LOG", trial.Log())
    return trial.LOG


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    return load_spec(write_spec(tmp_path), None, environment={})


@pytest.fixture
def context_of(spec: Spec) -> Callable[..., Context]:
    """Makes the surroundings of a run of some steps."""

    def make(*steps: Step, run: str = RUN, kind: str = "trial") -> Context:
        return Context(spec, Plan(kind, spec.project, spec.profile, spec.digest, steps), run)

    return make


@pytest.fixture
def execute(context_of: Callable[..., Context]) -> Callable[..., Finished]:
    """Executes some steps as one run."""

    def carry_out(*steps: Step) -> Finished:
        context = context_of(*steps)
        return runs.execute(context.plan, context, Settings())

    return carry_out


@pytest.fixture
def resume(context_of: Callable[..., Context]) -> Callable[..., Finished]:
    """Goes on with the run of the same steps."""

    def go_on(*steps: Step, done: tuple[str, ...] = (), again: tuple[str, ...] = ()) -> Finished:
        context = context_of(*steps)
        context.reported = {one: {"by": "test"} for one in done}
        return runs.resume(context, Settings(), again=again)

    return go_on
