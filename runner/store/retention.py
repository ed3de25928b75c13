"""Retention: which snapshots of a policy stay at a target, and why. Pure: no clock, no target.

Each rule keeps the newest snapshot of each of its periods, for each source; a snapshot stays
while any rule keeps any source of it, or something that stays needs it.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo

from runner.spec.model import VERIFY_LEVELS, Keep
from runner.store.view import Snapshot, by_age

# Longer than a run and than a mistaken timezone: what is dated later was dated by a wrong clock.
FUTURE = timedelta(days=1)


@dataclass(frozen=True)
class Decision:
    """Whether a snapshot stays."""

    id: str
    keep: bool
    reasons: tuple[str, ...]  # never empty; for a person
    replaced: bool = False  # another one stands for it, which is verified there


# The period in which a local time lies, for each rule.
_PERIODS: Mapping[str, Callable[[datetime], tuple[int, ...]]] = {
    "hourly": lambda at: (at.year, at.month, at.day, at.hour, at.fold),
    "daily": lambda at: (at.year, at.month, at.day),
    "weekly": lambda at: at.isocalendar()[:2],
    "monthly": lambda at: (at.year, at.month),
    "yearly": lambda at: (at.year,),
}

# By snapshot and reason: the sources for which it holds; none: for the snapshot as a whole.
# A reason that ends with "of" is about its sources by name.
Reasons = dict[str, dict[str, list[str]]]


def decide(
    snapshots: Iterable[Snapshot],
    keep: Keep,
    *,
    now: datetime,
    timezone: str,
    policy: str,
    target: str,
    unverified: bool,
    awaited: Mapping[str, str] | None = None,
) -> tuple[Decision, ...]:
    """A decision for each snapshot of `policy` at `target`, the newest first.

    `snapshots` may hold those of other policies too: what they need stays. `unverified` says
    that the newest has no proof at the target (see `newest_is_unverified`): nothing goes then.
    `awaited` are those that another target is still to get from here, by id, and why they stay.
    """
    from zoneinfo import ZoneInfo

    there = [one for one in snapshots if target in one.targets]
    every = sorted((one for one in there if one.policy == policy), key=by_age, reverse=True)
    replaced = {} if _for_ever(keep) else _replaced(every, target)
    own = [one for one in every if one.id not in replaced]
    others = [one for one in there if one.policy != policy]
    protected = _protected(own, target)
    for one in own:
        if awaited and one.id in awaited:
            _note(protected, one.id, awaited[one.id])
    wanted: Reasons = {key: dict(reasons) for key, reasons in protected.items()}
    _apply_rules(wanted, own, keep, now, ZoneInfo(timezone))
    staying = _with_needed(wanted, every, others)
    lost: Reasons = {}
    if keep.max_size is not None:
        lost = _cap(staying, _Graph(every, others, protected, wanted), keep.max_size)
    lost |= {name: {f"replaced by {heir}": []} for name, heir in replaced.items()}
    if unverified:
        for one in every:
            if one.id not in staying:
                staying[one.id] = {f"nothing goes: {every[0].id} is not verified at {target}": []}
    return tuple(
        replace(_decision(one, staying, lost), replaced=one.id in replaced) for one in every
    )


def newest_is_unverified(snapshots: Iterable[Snapshot], policy: str, target: str) -> bool:
    """Whether the policy's newest snapshot at a target lacks a PASS that still holds there, for
    any source whose content lies in it.
    """
    own = [one for one in snapshots if one.policy == policy and target in one.targets]
    newest = max(own, key=by_age, default=None)
    return newest is not None and any(
        newest.best_proof(source, target=target) is None for source in newest.sources
    )


def _replaced(own: Sequence[Snapshot], target: str) -> dict[str, str]:
    """By id: what was encrypted anew, and by which snapshot, where that is verified at the target.

    It takes no place in a rule: its content has one already.
    """
    by_id = {one.id: one for one in own}
    found = {}
    for heir in own:
        old = by_id.get(heir.rekeyed[0]) if heir.rekeyed else None
        if old is None or by_age(old) >= by_age(heir) or (old.pinned and not heir.pinned):
            continue
        if all(heir.best_proof(source, target=target) is not None for source in heir.sources):
            found[old.id] = heir.id
    return found


def _for_ever(keep: Keep) -> bool:
    return replace(keep, max_size=None).forever


def _decision(one: Snapshot, staying: Reasons, lost: Reasons) -> Decision:
    keep = one.id in staying
    reasons = staying[one.id] if keep else lost.get(one.id, {"not kept by any rule": []})
    return Decision(
        one.id, keep, tuple(_sentence(one, text, about) for text, about in reasons.items())
    )


def _sentence(one: Snapshot, text: str, about: Collection[str]) -> str:
    if text.endswith(" of"):
        return f"{text} {', '.join(sorted(about))}"
    partly = about and set(about) != set(one.covers)
    return f"{text} for {', '.join(sorted(about))}" if partly else text


def _note(reasons: Reasons, snapshot: str, text: str, *about: str) -> None:
    reasons.setdefault(snapshot, {}).setdefault(text, []).extend(about)


def _protected(own: Sequence[Snapshot], target: str) -> Reasons:
    """What no rule and no cap removes: newest, newest proven, and pinned."""
    reasons: Reasons = {}
    seen: set[str] = set()
    deepest: dict[str, int] = {}
    for one in own:
        for source in one.covers:
            if source not in seen:
                seen.add(source)
                _note(reasons, one.id, "newest of", source)
        for source in one.sources if one.proofs else ():
            proof = one.best_proof(source, target=target)
            if proof is not None and proof.depth > deepest.get(source, -1):
                deepest[source] = proof.depth
                _note(reasons, one.id, f"newest proven {VERIFY_LEVELS[proof.depth]} of", source)
        if one.pinned:
            until = f" until {one.pinned_until:%Y-%m-%d}" if one.pinned_until else ""
            _note(reasons, one.id, f"pinned{until}")
    if own and own[0].id not in reasons:
        _note(reasons, own[0].id, "newest")
    return reasons


def _apply_rules(
    reasons: Reasons, own: Sequence[Snapshot], keep: Keep, now: datetime, zone: tzinfo
) -> None:
    if _for_ever(keep):
        for one in own:
            _note(reasons, one.id, "no rule lets it go")
        return
    by_source: dict[str, list[tuple[str, datetime]]] = {}
    for one in own:
        for source, at in one.covers.items():
            if at > now + FUTURE:
                # It stays, and takes no other's place in a rule.
                _note(reasons, one.id, "dated in the future", source)
            else:
                by_source.setdefault(source, []).append((one.id, at))
    for source, dated in by_source.items():
        for snapshot, reason in _kept(dated, keep, now, zone):
            _note(reasons, snapshot, reason, source)


def _kept(
    dated: Sequence[tuple[str, datetime]], keep: Keep, now: datetime, zone: tzinfo
) -> Iterator[tuple[str, str]]:
    """What the rules keep of one source's snapshots, newest first, and why."""
    for snapshot, _ in dated[: keep.last]:
        yield snapshot, f"among the last {keep.last}"
    for rule in _PERIODS:
        for snapshot, place in _places(dated, rule, getattr(keep, rule), zone):
            yield snapshot, f"{rule} {place} of {getattr(keep, rule)}"
    if keep.within:
        # Counted from the newest, so that a pause of the backups does not use the history up.
        since = min(now, dated[0][1]) - timedelta(seconds=keep.within)
        yield from ((one, "within the time to keep all") for one, at in dated if at > since)


def _places(
    dated: Sequence[tuple[str, datetime]], rule: str, count: int, zone: tzinfo
) -> Iterator[tuple[str, int]]:
    """The newest snapshot of each of the newest `count` periods, and which of them it is."""
    seen: set[tuple[int, ...]] = set()
    for snapshot, at in dated:
        if len(seen) >= count:
            return
        period = _PERIODS[rule](at.astimezone(zone))
        if period not in seen:
            seen.add(period)
            yield snapshot, len(seen)


def _with_needed(wanted: Reasons, own: Sequence[Snapshot], others: Iterable[Snapshot]) -> Reasons:
    """What is wanted, and what that or another policy's snapshot needs, to the last base."""
    by_id = {one.id: one for one in own}
    staying = {key: dict(reasons) for key, reasons in wanted.items()}
    pending = [*others, *(by_id[key] for key in wanted)]
    while pending:
        one = pending.pop()
        for needed in sorted(one.needs & by_id.keys()):
            if needed not in staying:
                pending.append(by_id[needed])
                staying[needed] = {f"needed by {one.id}": []}
    return staying


@dataclass(frozen=True)
class _Graph:
    own: Sequence[Snapshot]  # newest first
    others: Sequence[Snapshot]  # of other policies: they stay, and so does what they need
    protected: Reasons
    wanted: Reasons  # by rules or protected; the rest that stays is only needed by these


def _cap(staying: Reasons, graph: _Graph, most: int) -> Reasons:
    """Take the oldest out of `staying` until it has at most `most` bytes; return why they went.

    What is protected stays, and what something that stays needs. What was only needed goes
    with the last that needed it.
    """
    by_id = {one.id: (-age, one) for age, one in enumerate(graph.own) if one.id in staying}
    total = sum(one.bytes for _, one in by_id.values())
    users = Counter(key for one in graph.others for key in one.needs)
    users.update(key for _, one in by_id.values() for key in one.needs)
    free = [
        (age, key)
        for key, (age, _) in by_id.items()
        if not users[key] and key not in graph.protected
    ]
    heapq.heapify(free)
    lost: Reasons = {}
    while free and total > most:
        going = [heapq.heappop(free)[1]]
        while going:
            _, one = by_id[going.pop()]
            total -= one.bytes
            del staying[one.id]
            lost[one.id] = {f"over max_size of {most} bytes": []}
            for needed in one.needs & staying.keys():
                users[needed] -= 1
                if not users[needed] and needed not in graph.protected:
                    if needed in graph.wanted:
                        heapq.heappush(free, (by_id[needed][0], needed))
                    else:
                        going.append(needed)
    if total > most:
        text = (
            f"max_size of {most} bytes is exceeded by {total - most}: all that stays is protected"
        )
        _note(staying, graph.own[0].id, text)
    return lost
