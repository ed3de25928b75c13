"""What a chain of snapshots tells, and what it cannot."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from runner.store.catalog import read_catalog
from runner.store.chain import Gap, Link, chain_gaps
from runner.store.records import Proof, proofs_body, write_record
from runner.target.local import LocalTarget
from tests.store.builders import PROFILE, PROJECT, START, Made, series

NOW = START + timedelta(days=400)


@pytest.fixture
def disk(tmp_path: Path) -> LocalTarget:
    return LocalTarget("disk", tmp_path / "disk")


@pytest.fixture
def nas(tmp_path: Path) -> LocalTarget:
    return LocalTarget("nas", tmp_path / "nas")


def gaps(*targets: LocalTarget, of: str = "disk", remembered: Link | None = None) -> list[Gap]:
    catalog = read_catalog(
        {one.name: one for one in targets}, PROJECT, PROFILE, cache=None, now=NOW
    )
    return list(chain_gaps(catalog, of, remembered=remembered))


def link(made: Made) -> Link:
    return Link(made.id, made.manifest.sequence, made.link["sha256"])


def drop(target: LocalTarget, made: Made) -> None:
    for name in ("manifest.json", *made.files):
        target.delete(f"{PROJECT}/{PROFILE}/{made.id}/{name}")


def verdicts(found: list[Gap]) -> list[tuple[str, str]]:
    return [(one.snapshot, one.verdict) for one in found]


def test_with_nothing_to_compare_with_it_cannot_tell(disk: LocalTarget) -> None:
    made = [one.store(disk) for one in series(3)]
    assert verdicts(gaps(disk)) == [(made[2].id, "COULD-NOT-VERIFY")]
    assert gaps(disk, remembered=link(made[2])) == []


def test_an_empty_target_has_no_gaps_unless_something_was_there(disk: LocalTarget) -> None:
    (made,) = series(1)
    assert gaps(disk) == []
    assert verdicts(gaps(disk, remembered=link(made))) == [(made.id, "FAIL")]


def test_a_pruned_middle_is_ordinary(disk: LocalTarget, nas: LocalTarget) -> None:
    made = [one.store(disk, nas) for one in series(4)]
    drop(disk, made[0])
    drop(disk, made[2])
    assert gaps(disk, nas) == []


def test_a_replaced_snapshot_shows_in_its_successor(disk: LocalTarget, nas: LocalTarget) -> None:
    first, second = (one.store(disk, nas) for one in series(2))
    for target in (disk, nas):
        other = replace(first.manifest, host="elsewhere")
        replace(first, manifest=other, data=other.to_bytes()).store(target)
    assert verdicts(gaps(disk, nas)) == [(second.id, "FAIL")]
    assert first.id in gaps(disk, nas)[0].reason


def test_a_copy_that_differs_is_told_at_its_target(disk: LocalTarget, nas: LocalTarget) -> None:
    first, _ = (one.store(disk, nas) for one in series(2))
    other = replace(first.manifest, host="elsewhere")
    replace(first, manifest=other, data=other.to_bytes()).store(disk)
    assert verdicts(gaps(disk, nas)) == [(first.id, "FAIL")]
    assert gaps(disk, nas, of="nas") == []


def test_a_newest_that_was_verified_here_and_is_gone_was_taken_away(
    disk: LocalTarget, nas: LocalTarget
) -> None:
    made = [one.store(disk, nas) for one in series(3)]
    drop(disk, made[2])
    assert verdicts(gaps(disk, nas)) == [(made[2].id, "COULD-NOT-VERIFY")]
    proof = Proof(made[2].id, "", "disk", "stored", "PASS", NOW, "harbour", "stored")
    write_record(nas, PROJECT, PROFILE, "proofs", proofs_body([proof]), NOW)
    assert verdicts(gaps(disk, nas)) == [(made[2].id, "FAIL")]


def test_a_rollback_shows_against_what_this_host_remembers(disk: LocalTarget) -> None:
    made = [one.store(disk) for one in series(3)]
    drop(disk, made[2])
    assert verdicts(gaps(disk, remembered=link(made[2]))) == [(made[2].id, "FAIL")]


def test_another_host_may_go_on_and_prune_what_this_one_remembers(disk: LocalTarget) -> None:
    made = [one.store(disk) for one in series(3)]
    drop(disk, made[1])
    assert gaps(disk, remembered=link(made[1])) == []


def test_a_policy_that_never_goes_there_is_no_gap(disk: LocalTarget, nas: LocalTarget) -> None:
    for one in series(2):
        one.store(disk)
    for one in series(2, policy="hourly", first=3, start=START + timedelta(days=3)):
        one.store(nas)
    assert gaps(disk, nas) == []


def test_a_target_that_was_not_reached_is_not_judged(disk: LocalTarget, nas: LocalTarget) -> None:
    for one in series(2):
        one.store(nas)
    (disk.root).parent.mkdir(exist_ok=True)
    disk.root.write_text("a file where a folder belongs")
    assert gaps(disk, nas) == []
