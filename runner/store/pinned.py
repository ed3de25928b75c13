"""Which snapshots are pinned, by what all targets say: the latest word on each counts. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from runner.store.records import Pin, Records, Unpin


def pins(many: Collection[Records], now: datetime) -> dict[str, Pin]:
    """The pins that hold at `now`, by snapshot, from what all targets say.

    The latest word counts; a pin and an unpin of the same instant leave it pinned.
    """
    words: list[Pin | Unpin] = []
    for records in many:
        words += [*records.unpins, *records.pins]
    held: dict[str, Pin] = {}
    for word in sorted(words, key=lambda one: (one.at, isinstance(one, Pin))):
        if isinstance(word, Pin):
            held[word.snapshot] = word
        else:
            held.pop(word.snapshot, None)
    return {key: one for key, one in held.items() if one.until is None or one.until > now}


def untold(
    records: Mapping[str, Records], target: str, snapshots: Collection[str], now: datetime
) -> list[Pin]:
    """The pins of these snapshots that a target does not know: it could not be reached then.

    An unpin is never passed on: who may write to one target could have what is pinned removed from
    the others.
    """
    held, known = pins(records.values(), now), pins([records[target]], now)
    return [pin for one, pin in sorted(held.items()) if one in snapshots and known.get(one) != pin]
