"""The content of a running Redis server as a few numbers: equal exactly where it is equal.

For every logical database and type, how many keys there are and the sum modulo 2^128 of
blake2b(database, expiry in ms, key, type, value). A sum, since keys have no order; of what a value
is (`redis_value`), since what DUMP answers differs between equal ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner.errors import StepFailed
from runner.source.redis_connect import RawConnection, Rejected
from runner.source.redis_reader import Reader
from runner.source.redis_value import MODULUS, digest

FORMAT = 1


def fingerprint(connection: RawConnection, horizon: int = 0) -> dict[str, Any]:
    """The fingerprint of all databases. Keys and fields that expire before `horizon` (ms since
    1970) are left out: until then, two servers can be compared.

    Raises StepFailed when the server ends, or changes meanwhile.
    """
    reader = Reader.of(connection, horizon)
    found = {}
    for database in databases(connection):
        connection.select(database)
        kinds = reader.database(database)
        if kinds:
            found[str(database)] = {
                kind.decode(): {"keys": one.keys, "sum": f"{one.total % MODULUS:032x}"}
                for kind, one in sorted(kinds.items())
            }
    functions = {
        name.decode(errors="backslashreplace"): f"{digest(code):032x}"
        for name, code in sorted(libraries(connection))
    }
    return {"format": FORMAT, "horizon": horizon, "databases": found, "functions": functions}


def of_keys(connection: RawConnection, names: Sequence[bytes]) -> dict[bytes, tuple[int, int]]:
    """Of these keys of the selected database: by type, how many are there, and their sum."""
    found = Reader.of(connection, 0).keys(names)
    return {kind: (one.keys, one.total % MODULUS) for kind, one in found.items()}


def compare(expected: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """How two fingerprints differ, in words; empty when they are equal."""
    if expected["format"] != found["format"]:
        raise StepFailed("The fingerprint was taken by another version and cannot be compared.")
    differences = []
    numbers = sorted({*expected["databases"], *found["databases"]}, key=int)
    for number in numbers:
        kinds = [one["databases"].get(number, {}) for one in (expected, found)]
        for kind in sorted({*kinds[0], *kinds[1]}):
            words = _difference(*(one.get(kind, {"keys": 0, "sum": ""}) for one in kinds))
            if words:
                differences.append(f"database {number}: keys of type {kind}: {words}")
    for name in sorted({*expected["functions"], *found["functions"]}):
        if expected["functions"].get(name) != found["functions"].get(name):
            gone = "is missing" if name not in found["functions"] else "differs"
            gone = "is there in addition" if name not in expected["functions"] else gone
            differences.append(f"the function library {name} {gone}")
    return differences


def _difference(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    if expected["keys"] != found["keys"]:
        return f"{found['keys']:,} instead of {expected['keys']:,}"
    return "" if expected["sum"] == found["sum"] else f"of {found['keys']:,}, some differ"


def databases(connection: RawConnection) -> list[int]:
    """The logical databases that hold keys."""
    text = connection.call("INFO", "keyspace").decode(errors="replace")
    return [
        int(line.partition(":")[0].removeprefix("db"))
        for line in text.splitlines()
        if line.startswith("db") and ":keys=" in line
    ]


def libraries(connection: RawConnection) -> list[tuple[bytes, bytes]]:
    """The name and the code of each library of functions; none before 7.0."""
    try:
        found = connection.call("FUNCTION", "LIST", "WITHCODE")
    except Rejected as error:
        if "unknown command" not in error.text.lower():
            raise
        return []
    named = [dict(zip(one[::2], one[1::2], strict=True)) for one in found]
    return [(one[b"library_name"], one[b"library_code"]) for one in named]
