"""What is said of a recovery before it begins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from runner.plan.model import Plan, Step
from runner.plan.telling import no_return_words, point_of_no_return, skew_of, skew_words

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def plan(*steps: Step, kind: str = "dr-restore", **facts: Any) -> Plan:
    return Plan(kind, "quay", "default", "", steps, facts)


def swap(name: str) -> Step:
    return Step(f"{name}.swap", "recovery.swap", "", {"source": name}, effect="destroys")


def test_the_skew_is_between_the_oldest_and_the_newest() -> None:
    found = skew_of({"db": NOON, "main": NOON - timedelta(hours=2), "cache": NOON})
    assert found == {"seconds": 7200.0, "oldest": "main", "newest": "db"}
    words = skew_words(plan(skew=found))
    assert words is not None
    assert "2h" in words
    assert skew_of({"db": NOON}) is None
    assert skew_words(plan()) is None
    assert "one instant" in str(skew_words(plan(skew=skew_of({"db": NOON, "main": NOON}))))


def test_the_point_of_no_return_is_the_first_exchange() -> None:
    own = [Step(name, "command.run", "", effect="writes") for name in ("provision", "deploy")]
    undo = Step("db.unswap", "recovery.unswap", "", {"source": "db"}, effect="destroys",
                when="failure")  # fmt: skip
    stage = Step("db.stage", "recovery.stage", "", {"source": "db"}, effect="writes")
    whole = plan(own[0], stage, undo, swap("db"), swap("main"), own[1])
    assert point_of_no_return(whole) == {
        "step": "db.swap",
        "undoable": ["db", "main"],
        "own_before": ["provision"],
        "own_after": ["deploy"],
    }
    first, second = no_return_words(whole)
    assert "provision" in first
    assert "What deploy did cannot." in second


def test_what_replaces_nothing_live_has_none() -> None:
    assert point_of_no_return(plan(swap("db"), kind="drill")) is None
    assert list(no_return_words(plan(Step("look", "probe.ask", "")))) == []
