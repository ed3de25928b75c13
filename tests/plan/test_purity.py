"""A plan is a value: the same world gives the same plan, and its id is its content's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.plan.model import EFFECTS, WHENS, Plan, canonical, plan_from_json
from runner.spec.load import load_spec
from tests.plan.test_cases import CASES, load
from tests.plan.world import World, world

SOURCES = {
    "db": {"type": "sqlite", "path": "data/app.db"},
    "config": {"type": "files", "paths": ["config"]},
    "code": {"type": "git", "path": "code"},
    "logs": {"type": "files", "paths": ["logs"]},
}
BASE: dict[str, Any] = {
    "version": 1,
    "project": "quaybot",
    "sources": SOURCES,
    "targets": {"disk": {"type": "local", "path": "backups"}},
}
SNAPSHOT = {
    "at": "2026-11-19T02:00:00+00:00",
    "policy": "nightly",
    "sequence": 1,
    "token": "000001",
    "sources": list(SOURCES),
    "targets": ["disk"],
}
FACTS: dict[str, Any] = {
    "now": "2026-11-20T02:15:00+00:00",
    "token": "7f3a9c",
    "host": "quay1",
    "identities": dict.fromkeys(SOURCES, "2049:131"),
    "snapshots": [SNAPSHOT],
}


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    return load(request.param, tmp_path)


def test_compiling_twice_gives_the_same_plan(made: World) -> None:
    assert made.compile() == made.compile()
    assert made.compile().id == made.compile().id


def test_reasons_are_not_part_of_the_id_and_everything_else_is(made: World) -> None:
    plan = made.compile()
    first = plan.steps[0]

    def with_first(**changes: Any) -> str:
        return replace(plan, steps=(replace(first, **changes), *plan.steps[1:])).id

    assert with_first(reason="because I say so") == plan.id
    others = [
        with_first(params={**first.params, "more": 1}),
        with_first(title="Do something else"),
        with_first(action="snapshot.delete"),
        with_first(timeout=1.5),
        with_first(needs=("x",)),
        replace(plan, steps=plan.steps[1:]).id,
        replace(plan, profile="prod").id,
        replace(plan, facts={**plan.facts, "more": 1}).id,
    ]
    assert len({plan.id, *others}) == len(others) + 1


def test_a_saved_plan_comes_back_as_it_was(made: World) -> None:
    plan = made.compile()
    read = plan_from_json(json.loads(canonical(plan.as_json())))
    assert read.id == plan.id
    assert canonical(read.as_json()) == canonical(plan.as_json())


def paths_in(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every plain value of a document stands."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield from paths_in(value, (*path, key))
    elif isinstance(document, list):
        for number, value in enumerate(document):
            yield from paths_in(value, (*path, number))
    else:
        yield path


def test_a_saved_plan_that_was_changed_is_refused(made: World) -> None:
    text = canonical(made.compile().as_json())
    for path in list(paths_in(json.loads(text)))[::7]:
        if "reason" in path:
            continue
        document = json.loads(text)
        place = document
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = "changed"
        with pytest.raises(ValueError, match=r"changed|not a"):
            plan_from_json(document)


@pytest.mark.parametrize(
    "document", [None, [], "", 7, {}, {"format": 2}, {"format": 1}, {"format": 1, "steps": [7]}]
)
def test_what_is_no_plan_is_refused(document: Any) -> None:
    with pytest.raises(ValueError, match="this is not a"):
        plan_from_json(document)


@st.composite
def recoveries(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A recovery that restores some sources, in waves, with other steps in any place."""
    left = draw(st.permutations(list(SOURCES)))
    entries: list[dict[str, Any]] = []
    while left:
        size = draw(st.integers(1, len(left)))
        entries.append({"restore": left[:size]})
        left = left[size:]
    for number in range(draw(st.integers(0, 4))):
        entry: dict[str, Any] = draw(
            st.sampled_from(
                [
                    {"run": "true"},
                    {"run": "true", "drill": "same"},
                    {"run": "true", "drill": "echo drill"},
                    {"probe": {"tcp": "127.0.0.1:1"}},
                    {"probe": {"sql": "select 1", "source": "db"}, "drill": "same"},
                    {"manual": "Look."},
                ]
            )
        )
        when = draw(st.sampled_from(WHENS))
        entries.insert(
            draw(st.integers(0, len(entries))), {"name": f"step-{number}", "when": when, **entry}
        )
    return entries


@st.composite
def services(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(["bot", "web", "worker"]), unique=True))
    of = st.lists(st.sampled_from(list(SOURCES)), min_size=1, unique=True)
    return {name: {"stop": "true", "start": "true", "sources": draw(of)} for name in names}


def assert_sound(plan: Plan) -> None:
    """Ids are unique, every name leads somewhere, nothing waits for itself."""
    ids = [step.id for step in plan.steps]
    assert len(ids) == len(set(ids))
    known = set(ids)
    for step in plan.steps:
        assert {*step.needs, *step.after} <= known, step.id
        assert step.undoes is None or step.undoes in known
        assert step.undoes is None or step.undoes in step.after
        assert step.effect in EFFECTS
        assert step.when in WHENS
        assert step.needs == () or step.when == "success"
    order = TopologicalSorter({one.id: {*one.needs, *one.after} for one in plan.steps})
    assert set(order.static_order()) == known
    # The order in which steps are shown is one in which they can run.
    seen: set[str] = set()
    for step in plan.steps:
        assert {*step.needs, *step.after} <= seen, step.id
        seen.add(step.id)


@given(recovery=recoveries(), running=services(), kind=st.sampled_from(["dr-restore", "drill"]))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_recovery_makes_a_sound_plan(
    tmp_path: Path, recovery: list[dict[str, Any]], running: dict[str, Any], kind: str
) -> None:
    document = {**BASE, "recovery": recovery}
    if running:
        document["services"] = running
    file = tmp_path / "backup.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    spec = load_spec(file, None, environment={})
    plan = world(spec, {**FACTS, "ask": {"kind": kind}}).compile()
    assert_sound(plan)
    stops = {step.params["service"] for step in plan.steps if step.action == "service.stop"}
    starts = {step.params["service"] for step in plan.steps if step.action == "service.start"}
    assert stops == starts == (set(running) if kind == "dr-restore" else set())
    for step in plan.steps:
        if step.action == "recovery.swap":
            assert any(other.undoes == step.id for other in plan.steps)
        if kind == "drill" and step.action.startswith("recovery."):
            assert Path(step.params["destination"]).is_relative_to("/scratch")


def test_every_case_is_sound(made: World) -> None:
    assert_sound(made.compile())
