"""The primaries of a Redis cluster, each with part of the keys."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runner.source.redis_address import Address
from runner.source.redis_connect import RawConnection, Rejected
from runner.source.redis_names import SLOTS


@dataclass(frozen=True)
class Primary:
    """A server that holds some of the slots, or all of them where there is no cluster."""

    part: str  # of its artifact: named by its first slot, so a failover changes nothing; empty: all
    address: Address
    slots: tuple[tuple[int, int], ...] = ()  # the first and last of each range; empty: no cluster


@dataclass(frozen=True)
class Layout:
    """The servers to read, and what a person should know of them."""

    primaries: tuple[Primary, ...]  # at least one
    notes: tuple[str, ...] = ()


def layout_of(connection: RawConnection, address: Address) -> Layout:
    """The primaries of the cluster that this server belongs to; itself where there is none."""
    alone = Layout((Primary("", address),))
    try:
        ranges = connection.call("CLUSTER", "SLOTS")
    except Rejected as error:
        if "cluster support disabled" in error.text:
            return alone
        if not error.forbidden:
            raise
        note = "not known whether it belongs to a cluster: this user may not ask CLUSTER SLOTS"
        return Layout(alone.primaries, (note,))
    if not ranges:
        return alone
    return _layout(ranges, address)


def _layout(ranges: Sequence[Sequence[Any]], address: Address) -> Layout:
    first: dict[bytes, int] = {}  # the lowest slot of each primary, by its id
    slots: dict[bytes, list[tuple[int, int]]] = defaultdict(list)
    places: dict[bytes, Address] = {}
    covered = 0
    for low, high, (host, port, name, *_), *_ in ranges:
        covered += high - low + 1
        slots[name].append((low, high))
        first[name] = min(low, first.get(name, low))
        # A node that does not know its own address is the one that was asked.
        known = host.decode() if host and host != b"?" else address.host
        places[name] = address.beside(known, port)
    primaries = (
        Primary(f"slot-{first[name]}", places[name], tuple(slots[name]))
        for name in sorted(first, key=first.__getitem__)
    )
    notes = [f"a cluster of {len(first)} primaries, each of its own instant"]
    if covered < SLOTS:
        notes.append(f"{SLOTS - covered:,} of its slots belong to no server")
    return Layout(tuple(primaries), tuple(notes))
