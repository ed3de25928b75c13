"""The servers that one restore goes to: one, or the primaries of a cluster, each on its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from runner.source.redis_address import Address
from runner.source.redis_cluster import layout_of
from runner.source.redis_connect import connect
from runner.source.redis_spot import Spot


def find(spot: Spot) -> list[Spot]:
    """The servers, as they are now or, once a swap has begun, as they were then."""
    if not _note(spot).exists() and spot.home is None:
        with connect(spot.address) as connection:
            primaries = layout_of(connection, spot.address).primaries
        if len(primaries) > 1 or primaries[0].part:
            places = [
                {"host": one.address.host, "port": one.address.port, "slots": one.slots}
                for one in primaries
            ]
            spot.write(_note(spot), {"primaries": places})
    return known(spot)


def known(spot: Spot) -> list[Spot]:
    """The servers that a swap has begun with; the one that was named where none has."""
    try:
        places = json.loads(_note(spot).read_bytes())["primaries"]
    except FileNotFoundError:
        return [spot]
    return [
        replace(
            spot,
            live=spot.live.beside(one["host"], one["port"]),
            member=number,
            slots=tuple((low, high) for low, high in one["slots"]),
        )
        for number, one in enumerate(places)
    ]


def forget(spot: Spot) -> None:
    """The swap has not begun any more."""
    _note(spot).unlink(missing_ok=True)


def servers(address: Address) -> list[Address]:
    """The addresses of all primaries."""
    with connect(address) as connection:
        return [one.address for one in layout_of(connection, address).primaries]


def _note(spot: Spot) -> Path:
    return spot.workspace / "members.json"
