"""The proof of a staged Redis snapshot: all of it was split, and a server loaded all of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from runner.errors import PersonNeeded
from runner.source import Fingerprint, Place
from runner.source.redis_capture import FORMAT
from runner.source.redis_choose import among, as_list, from_list
from runner.source.redis_connect import connect
from runner.source.redis_fingerprint import fingerprint as content_of
from runner.source.redis_spot import Spot


def fingerprint(spot: Spot) -> dict[str, Any]:
    """What the artifacts hold, what the scratch server took of it, and its content."""
    staged = spot.noted()
    found: dict[str, Any] = {
        "artifacts": list(staged.hashes),
        "databases": {
            str(one): {"keys": keys} for one, keys in sorted(staged.summary.keys.items())
        },
        "types": staged.summary.types,
        "functions": staged.summary.functions,
        "loaded": staged.loaded,
        "expired": list(staged.expired),
        **({} if staged.chosen is None else {"chosen": as_list(staged.chosen)}),
    }
    server = spot.scratch
    if server is None:
        why = staged.unproven or "The scratch server that held the content has ended."
        return found | {"unproven": why, "remedy": staged.remedy}
    with connect(server.address) as connection:
        return found | {"content": content_of(connection, int(time.time() * 1000))}


def differences(expected: Fingerprint, found: Fingerprint, place: Place) -> Sequence[str]:  # noqa: ARG001
    """How what was staged differs from what was captured; empty when it is equal.

    Raises PersonNeeded where no server could load it, or the forms are not the same.
    """
    _require_known(expected)
    expected = _staged_of(expected, found)
    wrong = []
    for number in sorted({*expected["databases"], *found["databases"]}, key=int):
        counts = [one["databases"].get(number, {"keys": 0})["keys"] for one in (expected, found)]
        if counts[0] != counts[1]:
            wrong.append(f"database {number}: {counts[1]:,} keys instead of {counts[0]:,}")
    for kind in sorted({*expected["types"], *found["types"]}):
        counts = [one["types"].get(kind, 0) for one in (expected, found)]
        if counts[0] != counts[1]:
            wrong.append(f"{counts[1]:,} keys of type {kind} instead of {counts[0]:,}")
    if expected["functions"] != found["functions"]:
        wrong.append(f"{found['functions']} function libraries instead of {expected['functions']}")
    if wrong:
        return wrong
    if "unproven" in found:
        raise PersonNeeded(found["unproven"], remedy=found["remedy"])
    if "loaded" in found:
        keys = sum(one["keys"] for one in found["databases"].values())
        fewest, most = keys - found["expired"][1], keys - found["expired"][0]
        if not fewest <= found["loaded"] <= most:
            wrong.append(f"a server that loads it has {found['loaded']:,} keys, not {most:,}")
    return wrong


def _staged_of(expected: Fingerprint, found: Fingerprint) -> Fingerprint:
    """What was captured of the databases that were staged."""
    chosen = from_list(found.get("chosen"))
    staged = among(map(int, expected["databases"]), chosen)
    databases = {str(number): expected["databases"][str(number)] for number in staged}
    # Types are counted over all databases, and not where a server was believed how many keys it
    # sends.
    counted = databases == expected["databases"] and "other" not in expected["types"]
    return {
        "databases": databases,
        "types": (expected if counted else found)["types"],
        "functions": expected["functions"] if chosen is None else 0,
    }


def _require_known(expected: Fingerprint) -> None:
    if expected.get("format", FORMAT) != FORMAT:
        raise PersonNeeded(
            f"The snapshot's fingerprint has the form {expected['format']}, and this Holdfast "
            f"knows the form {FORMAT}: they cannot be compared.",
            remedy="Use the version of Holdfast that took the snapshot, or a newer one.",
        )
