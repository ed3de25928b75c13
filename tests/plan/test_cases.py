"""Golden plans: spec, facts and catalog in, the whole plan and its runbook out.

`pytest tests/plan --update-golden` writes them anew.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from runner.plan.model import Plan
from runner.report.runbook import render
from runner.spec.load import load_spec
from tests.plan.world import World, world

CASES = sorted((Path(__file__).parent / "cases").iterdir())
HOME = "/service"  # stands for the folder of the spec, wherever the test runs


def load(case: Path, folder: Path) -> World:
    shutil.copy(case / "backup.yaml", folder / "backup.yaml")
    spec = load_spec(folder / "backup.yaml", None, environment={})
    return world(spec, json.loads((case / "facts.json").read_text()))


def plain(value: Any, folder: Path) -> str:
    """JSON, or a text, that says the same on every machine."""
    text = value if isinstance(value, str) else json.dumps(value, indent=1, default=list) + "\n"
    return text.replace(str(folder), HOME)


def document_of(plan: Plan) -> dict[str, Any]:
    """A plan without what depends on where the spec lies."""
    document = asdict(plan)
    document["facts"].pop("resolved", None)
    return document


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_plan_is_as_expected(
    case: Path, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> None:
    # A name that Markdown has nothing to escape in.
    folder = tmp_path_factory.mktemp("service")
    made = load(case, folder)
    plan = made.compile()
    outputs = {"plan.json": plain(document_of(plan), folder)}
    if plan.kind == "dr-restore":
        outputs["runbook.md"] = plain(render(made.spec, plan), folder)
    for name, text in outputs.items():
        if pytestconfig.getoption("update_golden"):
            (case / name).write_text(text)
        assert text == (case / name).read_text(), f"{name}: look, then --update-golden"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_step_says_why_and_has_an_action(case: Path, tmp_path: Path) -> None:
    from runner.execute.actions import action_named

    made = load(case, tmp_path)
    for step in made.compile().steps:
        assert step.reason or step.action == "person.leave_out", step.id
        assert isinstance(action_named(step.action).commands(step, made.spec), list)
