"""Which snapshots are encrypted anew, as plans."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from runner.errors import UsageError
from runner.plan.facts import Facts
from runner.plan.model import Plan
from runner.plan.rekey import Wanted, compile_rekey
from runner.spec.load import load_spec
from runner.spec.model import Encryption, Spec
from runner.store.catalog import Catalog, Snapshot, SourceView
from runner.store.view import by_age
from tests.spec.builders import write_spec

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
SPEC = """\
version: 1
project: quaybot
sources: {db: {type: sqlite, path: a.db}}
targets: {disk: {type: local, path: a}, usb: {type: local, path: b}}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    """A spec whose recipient is `new`."""
    return replace(load_spec(write_spec(tmp_path, SPEC)), encryption=Encryption(("new",)))


def snapshot(sequence: int, recipient: str = "old", **more: object) -> Snapshot:
    at = NOW - timedelta(days=100 - sequence)
    made = Snapshot.expected(
        id=f"{at:%Y%m%dT%H%M%SZ}-nightly-{sequence:06x}",
        policy="nightly",
        sequence=sequence,
        created_at=at,
        sources={"db": SourceView(at, "sqlite", 10)},
        target="disk",
    )
    there = replace(made, encrypted=True, recipients=(recipient,), targets=("disk", "usb"))
    return replace(there, **more)  # type: ignore[arg-type]


def planned(spec: Spec, *snapshots: Snapshot, **wanted: object) -> Plan:
    catalog = Catalog(tuple(sorted(snapshots, key=by_age, reverse=True)))
    facts = Facts(NOW, "abcdef", "harbour")
    return compile_rekey(spec, facts, catalog, Wanted(**wanted))  # type: ignore[arg-type]


def acts(plan: Plan, action: str) -> list[str]:
    return [step.params.get("old", step.params["snapshot"]) for step in plan.steps
            if step.action == action]  # fmt: skip


def test_nothing_where_all_is_as_declared(spec: Spec) -> None:
    assert planned(spec, snapshot(1, "new"), snapshot(2, "new", encrypted=True)).steps == ()


def test_without_recipients_there_is_nothing_to_encrypt_to(spec: Spec) -> None:
    with pytest.raises(UsageError, match="declares no recipients"):
        planned(replace(spec, encryption=None), snapshot(1))


def test_the_oldest_first_and_each_removed_only_where_it_was_read_back(spec: Spec) -> None:
    one, two = snapshot(1), snapshot(2)
    plan = planned(spec, one, two)
    assert acts(plan, "rekey.write") == [one.id, two.id]
    for step in plan.steps:
        if step.action == "rekey.remove":
            new, target = step.params["snapshot"], step.params["target"]
            assert f"{new}.verify.{target}" in step.needs
            assert new.rpartition("-")[0] == step.params["old"].rpartition("-")[0]


def test_what_names_it_is_written_anew_and_removed_before_it(spec: Spec) -> None:
    old = snapshot(1)
    lazy = snapshot(2, "new", sources={}, unchanged={"db": old.id})
    plan = planned(spec, old, lazy)
    assert acts(plan, "rekey.write") == [old.id, lazy.id]
    written = plan.step(f"{lazy.id}.rekey")
    assert written.params["ids"].keys() == {old.id, lazy.id}
    assert f"{lazy.id}.remove.usb" in plan.step(f"{old.id}.remove.usb").needs


def test_one_that_was_written_before_is_brought_to_the_other_target_and_not_again(
    spec: Spec,
) -> None:
    old = snapshot(1)
    new = snapshot(1, "new", id=f"{old.id[:-6]}ffffff", rekeyed=(old.id, NOW), targets=("usb",))
    plan = planned(spec, old, new)
    assert acts(plan, "rekey.write") == []
    assert [step.id for step in plan.steps if step.action == "snapshot.copy"] == [
        f"{new.id}.copy.disk"
    ]
    assert acts(plan, "rekey.remove") == [old.id, old.id]


def test_recipients_that_changed_twice_leave_one_of_three(spec: Spec) -> None:
    old = snapshot(1)
    middle = snapshot(1, "middle", id=f"{old.id[:-6]}eeeeee", rekeyed=(old.id, NOW))
    plan = planned(spec, old, middle)
    assert acts(plan, "rekey.write") == [middle.id]
    assert sorted(set(acts(plan, "rekey.remove"))) == sorted([old.id, middle.id])
    # It comes after what it stands for, whatever this machine's clock says.
    assert plan.step(f"{middle.id}.rekey").params["at"] == "2026-06-15T12:00:01Z"


def test_what_stands_for_one_of_this_very_second_comes_after_it(spec: Spec) -> None:
    """Or the next rekey would not know the two for one, and write a third."""
    plan = planned(spec, snapshot(1, created_at=NOW))
    (writing,) = (step for step in plan.steps if step.action == "rekey.write")
    assert writing.params["at"] == "2026-06-15T12:00:01Z"


def test_only_the_wanted_ones_at_the_wanted_targets(spec: Spec) -> None:
    one, two = snapshot(1), snapshot(2)
    plan = planned(spec, one, two, snapshots=[one.id], targets=["usb"])
    assert acts(plan, "rekey.write") == [one.id]
    assert {step.params["target"] for step in plan.steps if "target" in step.params} == {"usb"}


def test_forged_manifests_make_no_circle(spec: Spec) -> None:
    one, two = snapshot(1), snapshot(2)
    names = {"unchanged": {"db": two.id}, "predecessor": (two.id, "0"), "rekeyed": (two.id, NOW)}
    forged = replace(one, **names)  # type: ignore[arg-type]
    circle = replace(two, unchanged={"db": one.id}, predecessor=(one.id, "0"))
    plan = planned(spec, forged, replace(circle, rekeyed=(one.id, NOW)))
    from graphlib import TopologicalSorter

    TopologicalSorter({step.id: {*step.needs, *step.after} for step in plan.steps}).prepare()
    known = {step.id for step in plan.steps}
    assert all({*step.needs, *step.after} <= known for step in plan.steps)
