"""The agenda decides on few steps at a time, and misses none."""

from __future__ import annotations

from graphlib import CycleError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.execute.agenda import Agenda, in_order
from runner.execute.journal import StepResult
from runner.execute.order import decide
from runner.plan.model import Step


def step(name: str, *needs: str, **more: object) -> Step:
    return Step(name, "a", name, needs=needs, **more)  # type: ignore[arg-type]


def ids(steps: object) -> list[str]:
    return [one.id for one in steps]  # type: ignore[attr-defined]


def test_steps_stand_behind_what_they_need_or_follow() -> None:
    steps = [step("last", "middle"), step("middle", after=("first",)), step("first")]
    assert ids(in_order(steps)) == ["first", "middle", "last"]
    with pytest.raises(CycleError):
        in_order([step("a", "b"), step("b", "a")])


def test_only_what_depends_on_a_change_is_decided_anew() -> None:
    agenda = Agenda([step("dump"), step("copy", "dump"), step("other")])
    assert ids(agenda.undecided()) == ["dump", "copy", "other"]
    assert ids(agenda.undecided()) == []
    agenda.changed("dump")
    assert ids(agenda.undecided()) == ["copy"]
    agenda.decide_all()
    assert ids(agenda.undecided()) == ["dump", "copy", "other"]


def test_what_may_run_is_asked_again_when_what_it_needs_was_taken_back() -> None:
    dump, copy = step("dump"), step("copy", "dump")
    agenda = Agenda([dump, copy])
    agenda.mark_ready(copy)
    assert ids(agenda.ready()) == ["copy"]
    agenda.changed("dump")
    assert ids(agenda.ready()) == []
    assert "copy" in ids(agenda.undecided())


def test_it_is_empty_when_everything_has_begun() -> None:
    dump, copy = step("dump"), step("copy", "dump")
    agenda = Agenda([dump, copy])
    agenda.remove(dump)
    assert ids(agenda) == ["copy"]
    agenda.remove(copy)
    assert not agenda
    agenda.changed("dump")
    assert ids(agenda.undecided()) == []


NAMES = "abcdefgh"


@st.composite
def plans(draw: st.DrawFn) -> list[Step]:
    """Steps that depend on earlier ones, some of which take them back or clean up."""
    steps = []
    for index in range(draw(st.integers(1, len(NAMES)))):
        earlier = st.lists(st.sampled_from(NAMES[:index]), unique=True) if index else st.just([])
        when = draw(st.sampled_from(["success", "success", "failure", "always"]))
        after = draw(earlier)
        undone = draw(st.sampled_from([None, *after])) if when != "success" else None
        needs = draw(earlier) if when == "success" else []
        steps.append(step(NAMES[index], *needs, after=tuple(after), when=when, undoes=undone))
    return steps


@given(plans(), st.data())
def test_it_decides_as_if_every_step_were_asked_every_time(
    steps: list[Step], data: st.DataObject
) -> None:
    agenda = Agenda(in_order(steps))
    results: dict[str, StepResult] = {}
    interrupted = False
    while agenda:
        for one in agenda.undecided():
            decision = decide(one, results, interrupted=interrupted)
            if decision.verb in ("skipped", "blocked"):
                agenda.remove(one)
                results[one.id] = StepResult(one.id, decision.verb)
                agenda.changed(one.id)
            elif decision.verb == "run":
                agenda.mark_ready(one)
        verbs = {one.id: decide(one, results, interrupted=interrupted).verb for one in agenda}
        assert set(verbs.values()) <= {"run", "wait"}
        ready = list(agenda.ready())
        assert ids(ready) == [one for one, verb in verbs.items() if verb == "run"]
        if not ready:
            assert not agenda
            return
        one = data.draw(st.sampled_from(ready))
        agenda.remove(one)
        status = data.draw(st.sampled_from(["done", "failed", "skipped", "interrupted"]))
        results[one.id] = StepResult(one.id, status)
        agenda.changed(one.id)
        if one.undoes and status == "done":
            results[one.undoes] = StepResult(one.undoes, "undone")
            agenda.changed(one.undoes)
        if not interrupted and data.draw(st.booleans()):
            interrupted = True
            agenda.decide_all()
