"""Retention on plain values, and properties that hold whatever the history."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.spec.model import Keep
from runner.store.catalog import Snapshot, SourceView
from runner.store.records import Proof
from runner.store.retention import Decision, decide, newest_is_unverified

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)


def snapshot(
    sequence: int,
    at: datetime,
    *,
    sources: tuple[str, ...] = ("db",),
    size: int = 100,
    policy: str = "nightly",
    **more: object,
) -> Snapshot:
    made = Snapshot.expected(
        id=f"{at:%Y%m%dT%H%M%SZ}-{policy}-{sequence:06x}",
        policy=policy,
        sequence=sequence,
        created_at=at,
        sources={name: SourceView(at, "files", size) for name in sources},
        target="disk",
    )
    return replace(made, bytes=size, **more)  # type: ignore[arg-type]


def proof(of: str, level: str = "stored", *, source: str = "", verdict: str = "PASS") -> Proof:
    return Proof(of, source, "disk", level, verdict, NOW, "harbour", "stored")


def daily(count: int, *, until: datetime = NOW, **more: object) -> list[Snapshot]:
    """One a day, the newest first."""
    return [
        snapshot(count - age, until - timedelta(days=age), **more)  # type: ignore[arg-type]
        for age in range(count)
    ]


def decided(
    snapshots: list[Snapshot],
    keep: Keep,
    *,
    now: datetime = NOW,
    timezone: str = "UTC",
    unverified: bool = False,
) -> tuple[Decision, ...]:
    return decide(
        snapshots,
        keep,
        now=now,
        timezone=timezone,
        policy="nightly",
        target="disk",
        unverified=unverified,
    )


def kept(snapshots: list[Snapshot], keep: Keep, **more: object) -> list[str]:
    return [one.id for one in decided(snapshots, keep, **more) if one.keep]  # type: ignore[arg-type]


def reasons(snapshots: list[Snapshot], keep: Keep, **more: object) -> dict[str, tuple[str, ...]]:
    return {one.id: one.reasons for one in decided(snapshots, keep, **more)}  # type: ignore[arg-type]


def test_an_empty_keep_keeps_everything() -> None:
    history = daily(40)
    assert kept(history, Keep()) == [one.id for one in history]
    assert reasons(history, Keep())[history[20].id] == ("no rule lets it go",)


def rekeyed(old: Snapshot) -> Snapshot:
    """What stands for a snapshot, and is verified."""
    new = replace(old, id=f"{old.id[:-6]}ffffff", rekeyed=(old.id, NOW), pinned=False)
    return replace(new, proofs=(proof(new.id),))


def test_what_was_encrypted_anew_counts_once() -> None:
    history = daily(6)
    twice = [one for old in history for one in (rekeyed(old), old)]
    assert kept(twice, Keep(last=3)) == [rekeyed(one).id for one in history[:3]]
    assert reasons(twice, Keep(last=3))[history[0].id] == (f"replaced by {twice[0].id}",)
    # Where nothing is to go by rules, nothing goes by a claim.
    assert kept(twice, Keep()) == [one.id for one in twice]


def test_what_is_not_verified_or_not_pinned_stands_for_nothing() -> None:
    (old,) = daily(1)
    unverified = replace(rekeyed(old), proofs=())
    assert kept([unverified, old], Keep(last=2)) == [unverified.id, old.id]
    pinned = replace(old, pinned=True)
    assert kept([rekeyed(pinned), pinned], Keep(last=2)) == [unverified.id, old.id]


def test_two_that_claim_to_stand_for_each_other_are_not_both_replaced() -> None:
    one, other = daily(2)
    circle = [
        replace(one, rekeyed=(other.id, NOW), proofs=(proof(one.id),)),
        replace(other, rekeyed=(one.id, NOW), proofs=(proof(other.id),)),
    ]
    assert kept(circle, Keep(last=1)) == [one.id]


def test_last_keeps_so_many() -> None:
    history = daily(10)
    assert kept(history, Keep(last=3)) == [one.id for one in history[:3]]
    assert reasons(history, Keep(last=3))[history[5].id] == ("not kept by any rule",)


def test_each_rule_keeps_the_newest_of_each_of_its_periods() -> None:
    history = [
        snapshot(200 - age, NOW - timedelta(hours=6 * age)) for age in range(120)
    ]  # 30 days, four a day
    found = reasons(history, Keep(daily=3, weekly=2, monthly=2))
    assert found[history[0].id] == (
        "newest of db",
        "daily 1 of 3",
        "weekly 1 of 2",
        "monthly 1 of 2",
    )
    # 2026-06-15 is a Monday: the 14th is the newest day of the week before.
    days = [
        one.created_at.date().isoformat()
        for one in history
        if one.id in kept(history, Keep(daily=3, weekly=2, monthly=2))
    ]
    assert days == ["2026-06-15", "2026-06-14", "2026-06-13", "2026-05-31"]


def test_days_are_those_of_the_timezone() -> None:
    history = [
        snapshot(2, datetime(2026, 6, 14, 22, 30, tzinfo=UTC)),  # the 15th in Berlin
        snapshot(1, datetime(2026, 6, 14, 21, 30, tzinfo=UTC)),  # the 14th
    ]
    assert len(kept(history, Keep(daily=2), timezone="Europe/Berlin")) == 2
    assert len(kept(history, Keep(daily=2), timezone="UTC")) == 1


def test_the_hour_that_comes_twice_counts_twice() -> None:
    history = [
        snapshot(2, datetime(2025, 10, 26, 1, 30, tzinfo=UTC)),  # 02:30 in Berlin, again
        snapshot(1, datetime(2025, 10, 26, 0, 30, tzinfo=UTC)),  # 02:30 in Berlin
    ]
    assert len(kept(history, Keep(hourly=2), timezone="Europe/Berlin")) == 2


def test_a_snapshot_stays_while_any_source_of_it_is_kept() -> None:
    at = NOW - timedelta(days=1)
    only_db = [snapshot(10 + age, NOW - timedelta(hours=5 - age)) for age in range(5)]
    both = snapshot(1, at, sources=("db", "config"))
    found = reasons([*only_db, both], Keep(last=2))
    assert found[both.id] == ("newest of config", "among the last 2 for config")
    assert len(kept([*only_db, both], Keep(last=2))) == 3


def test_within_is_counted_from_the_newest_so_a_pause_keeps_the_history() -> None:
    history = daily(40, until=NOW - timedelta(days=100))
    assert len(kept(history, Keep(within=10 * 86400.0))) == 10


def test_pinned_stays_and_says_until_when() -> None:
    history = daily(10)
    end = datetime(2027, 1, 1, tzinfo=UTC)
    history[7] = replace(history[7], pinned=True, pinned_until=end)
    history[8] = replace(history[8], pinned=True)
    found = reasons(history, Keep(last=1))
    assert found[history[7].id] == ("pinned until 2027-01-01",)
    assert found[history[8].id] == ("pinned",)
    assert len(kept(history, Keep(last=1))) == 3


def test_the_newest_proven_one_of_each_depth_stays() -> None:
    history = daily(10)
    history[0] = replace(history[0], proofs=(proof(history[0].id),))
    history[6] = replace(history[6], proofs=(proof(history[6].id, "restored"),))
    history[8] = replace(history[8], proofs=(proof(history[8].id, "restored"),))
    found = reasons(history, Keep(last=1))
    assert found[history[6].id] == ("newest proven restored of db",)
    assert found[history[8].id] == ("not kept by any rule",)


def test_bases_and_unchanged_references_stay_to_the_last_one() -> None:
    full, step, other = daily(10)[9], daily(10)[5], daily(10)[8]
    step = replace(step, bases=frozenset([full.id]))
    newest = replace(daily(10)[0], unchanged={"config": other.id}, bases=frozenset([step.id]))
    found = reasons([newest, step, other, full, daily(10)[7]], Keep(last=1))
    assert found[step.id] == (f"needed by {newest.id}",)
    assert found[full.id] == (f"needed by {step.id}",)
    assert found[other.id] == (f"needed by {newest.id}",)
    assert found[daily(10)[7].id] == ("not kept by any rule",)


def test_what_another_policy_needs_stays() -> None:
    history = daily(5)
    hourly = snapshot(99, NOW, policy="hourly", bases=frozenset([history[4].id]))
    found = reasons([*history, hourly], Keep(last=1))
    assert found[history[4].id] == (f"needed by {hourly.id}",)
    assert hourly.id not in found


def test_other_targets_are_not_decided_on() -> None:
    history = [replace(one, targets=("offsite",)) for one in daily(5)]
    assert decided(history, Keep(last=1)) == ()


def test_nothing_goes_while_the_newest_is_not_verified() -> None:
    history = daily(10)
    assert len(kept(history, Keep(last=1), unverified=True)) == 10
    assert reasons(history, Keep(last=1), unverified=True)[history[9].id] == (
        f"nothing goes: {history[0].id} is not verified at disk",
    )


def test_the_newest_is_verified_when_each_of_its_sources_has_a_proof_that_holds() -> None:
    newest = snapshot(2, NOW, sources=("db", "config"))
    older = snapshot(1, NOW - timedelta(days=1))

    def unverified(*proofs: Proof) -> bool:
        return newest_is_unverified([older, replace(newest, proofs=proofs)], "nightly", "disk")

    assert unverified()
    assert unverified(proof(newest.id, source="db"))
    assert not unverified(proof(newest.id, source="db"), proof(newest.id, source="config"))
    assert not unverified(proof(newest.id))
    assert unverified(proof(newest.id), proof(newest.id, source="db", verdict="FAIL"))
    assert unverified(replace(proof(newest.id), target="offsite"))


def test_max_size_takes_the_oldest_first() -> None:
    history = daily(10)
    assert kept(history, Keep(last=8, max_size=500)) == [one.id for one in history[:5]]
    assert reasons(history, Keep(last=8, max_size=500))[history[6].id] == (
        "over max_size of 500 bytes",
    )


def test_max_size_alone_keeps_all_that_fits() -> None:
    history = daily(10)
    assert kept(history, Keep(max_size=300)) == [one.id for one in history[:3]]


def test_max_size_never_goes_below_what_is_protected_and_says_so() -> None:
    history = daily(3)
    history[2] = replace(history[2], pinned=True)
    found = reasons(history, Keep(max_size=50))
    assert kept(history, Keep(max_size=50)) == [history[0].id, history[2].id]
    assert found[history[0].id][-1] == (
        "max_size of 50 bytes is exceeded by 150: all that stays is protected"
    )


def test_max_size_takes_a_base_only_after_all_that_need_it() -> None:
    full, one, two, newest = reversed(daily(4))
    one = replace(one, bases=frozenset([full.id]))
    two = replace(two, bases=frozenset([full.id]))
    history = [newest, two, one, full]
    assert kept(history, Keep(last=4, max_size=300)) == [newest.id, two.id, full.id]
    assert kept(history, Keep(last=4, max_size=200)) == [newest.id, full.id]
    assert kept(history, Keep(last=4, max_size=150)) == [newest.id]
    assert kept(history, Keep(last=2, max_size=200)) == [newest.id]  # full was only needed


def test_a_snapshot_dated_in_the_future_stays_and_takes_no_place() -> None:
    history = daily(5)
    wrong = snapshot(3, NOW + timedelta(days=900))
    found = reasons([*history, wrong], Keep(daily=2))
    assert found[wrong.id] == ("dated in the future",)
    assert kept(history, Keep(daily=2)) == [
        one for one in kept([*history, wrong], Keep(daily=2)) if one != wrong.id
    ]


def test_a_clock_that_jumped_back_deletes_nothing() -> None:
    history = daily(20)
    assert len(kept(history, Keep(last=1), now=datetime(1970, 1, 1, tzinfo=UTC))) == 20


def test_after_the_clock_jumped_back_the_sequence_says_which_is_newest() -> None:
    old = daily(5)
    newest = snapshot(50, NOW - timedelta(days=400))
    assert kept([*old, newest], Keep(last=1)) == [newest.id]


@pytest.mark.parametrize("timezone", ["UTC", "Asia/Kathmandu"])
def test_no_snapshots_no_decisions(timezone: str) -> None:
    assert decided([], Keep(last=1, max_size=1), timezone=timezone, unverified=True) == ()


counts = st.integers(0, 5)
rules = st.builds(
    Keep,
    last=counts,
    hourly=counts,
    daily=counts,
    weekly=counts,
    monthly=counts,
    yearly=counts,
    within=st.sampled_from([0.0, 3600.0, 5 * 86400.0]),
)
caps = st.none() | st.integers(0, 2000)


@st.composite
def histories(draw: st.DrawFn) -> list[Snapshot]:
    """Up to 25 snapshots at any times, with bases, references, pins and proofs."""
    made: list[Snapshot] = []
    for sequence in range(1, draw(st.integers(0, 25)) + 1):
        hours = draw(st.integers(-24 * 400, 24 * 5))
        names = draw(st.sets(st.sampled_from(["db", "config", "code"]), min_size=1))
        one = snapshot(
            sequence,
            NOW + timedelta(hours=hours),
            sources=tuple(sorted(names)),
            size=draw(st.integers(1, 200)),
            pinned=draw(st.integers(0, 9)) == 0,
        )
        if made and draw(st.integers(0, 1)) == 1:
            one = replace(one, bases=frozenset([draw(st.sampled_from(made)).id]))
        if made and draw(st.integers(0, 3)) == 0:
            before = draw(st.sampled_from(made))
            missing = sorted(set(before.sources) - names)
            one = replace(one, unchanged=dict.fromkeys(missing, before.id))
        if draw(st.integers(0, 4)) == 0:
            one = replace(
                one, proofs=(proof(one.id, draw(st.sampled_from(["stored", "restored"]))),)
            )
        made.append(one)
    return made


@given(histories(), rules, caps)
def test_applied_twice_it_removes_nothing_more(
    history: list[Snapshot], keep: Keep, cap: int | None
) -> None:
    keep = replace(keep, max_size=cap)
    staying = set(kept(history, keep))
    assert set(kept([one for one in history if one.id in staying], keep)) == staying


@given(histories(), rules.filter(lambda keep: not keep.forever), st.data())
def test_a_larger_keep_keeps_all_that_a_smaller_keeps(
    history: list[Snapshot], keep: Keep, data: st.DataObject
) -> None:
    rule = data.draw(st.sampled_from(["last", "hourly", "daily", "weekly", "monthly", "yearly"]))
    larger = replace(keep, **{rule: getattr(keep, rule) + data.draw(counts)})
    assert set(kept(history, keep)) <= set(kept(history, larger))
    assert set(kept(history, keep)) <= set(kept(history, Keep()))


@given(histories(), rules, st.integers(0, 2000), st.integers(0, 2000))
def test_a_larger_cap_keeps_all_that_a_smaller_keeps(
    history: list[Snapshot], keep: Keep, cap: int, more: int
) -> None:
    small = set(kept(history, replace(keep, max_size=cap)))
    assert small <= set(kept(history, replace(keep, max_size=cap + more)))
    assert small <= set(kept(history, keep))


@given(histories(), rules, caps)
def test_newest_pinned_and_needed_ones_always_stay(
    history: list[Snapshot], keep: Keep, cap: int | None
) -> None:
    staying = set(kept(history, replace(keep, max_size=cap)))
    for source in {name for one in history for name in one.covers}:
        holders = [one for one in history if source in one.covers]
        assert max(holders, key=lambda one: one.sequence).id in staying
    assert {one.id for one in history if one.pinned} <= staying
    for one in history:
        if one.id in staying:
            assert one.bases | set(one.unchanged.values()) <= staying
    proven = [one for one in history if one.proofs]
    if proven:
        assert max(proven, key=lambda one: one.sequence).id in staying


@given(histories(), rules, caps, st.randoms())
def test_the_order_of_what_is_given_does_not_matter(
    history: list[Snapshot], keep: Keep, cap: int | None, random: object
) -> None:
    keep = replace(keep, max_size=cap)
    shuffled = list(history)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert decided(shuffled, keep) == decided(history, keep)


@given(histories(), rules, caps)
def test_every_decision_says_why(history: list[Snapshot], keep: Keep, cap: int | None) -> None:
    for one in decided(history, replace(keep, max_size=cap)):
        assert one.reasons
        assert all(one.reasons)
