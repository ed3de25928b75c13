"""How a restored database differs from the snapshot's instant, in words."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from runner.errors import PersonNeeded
from runner.source.postgres_extensions import compare_rows
from runner.source.postgres_globals import compare_globals
from runner.source.postgres_tables import matcher

Database = Mapping[str, Any]

# Objects that a new database has by itself, or that the system names.
TABLE_KINDS = ("table", "foreign table", "view", "materialized view", "sequence")
_PART = re.compile(r'"((?:[^"]|"")*)"|([^".]+)')


def compare(
    expected: Mapping[str, Any],
    found: Mapping[str, Any],
    only: Sequence[str] = (),
    *,
    rights: bool = True,
) -> list[str]:
    """What of the expected content is missing or other in what was found; empty: nothing.

    `only` are patterns of tables: nothing else was restored. Without `rights`, whose an object is
    and who may use it are left out: a restore into a server with other roles.
    """
    differences: list[str] = []
    several = len(expected["databases"]) > 1
    for name, wanted in expected["databases"].items():
        before = f"{name}: " if several else ""
        if name not in found["databases"]:
            differences.append(f"database {name} is missing")
            continue
        found_one = found["databases"][name]
        differences += [
            f"{before}{words}" for words in compare_database(wanted, found_one, only, rights=rights)
        ]
    if not only and {"globals"} <= expected.keys() & found.keys():
        made = found["globals"].get("made", expected["globals"]["roles"])
        differences += compare_globals(expected["globals"], found["globals"], made)
    return differences


def require_same_algorithm(expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raise PersonNeeded where sums were computed in two ways: they would tell nothing."""
    ways = [one.get("algorithm", 1) for one in (expected, found)]
    if ways[0] != ways[1]:
        raise PersonNeeded(
            f"The snapshot's fingerprint was taken in the way {ways[0]}, and this Holdfast takes "
            f"it in the way {ways[1]}: they cannot be compared.",
            remedy="Use the version of Holdfast that took the snapshot, or a newer one.",
        )


def compare_database(
    expected: Database, found: Database, only: Sequence[str] = (), *, rights: bool = True
) -> Iterator[str]:
    """The differences of one database."""
    kept = _Kept(only, expected.get("partitions", {}))
    yield from _tables(_gathered(expected, expected), _gathered(found, expected), kept)
    yield from _sequences(expected["sequences"], found["sequences"], kept)
    if not only:
        yield from _large_objects(expected.get("large_objects"), found.get("large_objects"))
        yield from _extensions(expected, found)
        there = found.get("extension_rows", {})
        yield from compare_rows(expected.get("extension_rows", {}), there)
    yield from _objects(expected, found, kept, rights=rights)


class _Kept:
    """Which names are compared."""

    def __init__(self, only: Sequence[str], partitions: Mapping[str, Sequence[str]]) -> None:
        self.everything = not only
        self._pattern = matcher(only)
        below = (partitions[name] for name in partitions if self._named(name))
        self._partitions = {one for names in below for one in names}

    def __call__(self, name: str) -> bool:
        """Whether a qualified name, as a fingerprint has it, is; a partition with its table."""
        return self.everything or name in self._partitions or self._named(name)

    def _named(self, name: str) -> bool:
        return self._pattern.fullmatch("\0".join(parts(name))) is not None


def parts(name: str) -> list[str]:
    """The schema and the name of a qualified name, without their quotes."""
    return [quoted.replace('""', '"') if quoted else plain for quoted, plain in _PART.findall(name)]


def _gathered(database: Database, like: Database) -> dict[str, Any]:
    """The tables of a database; as one those partitions of `like` among which rows may move."""
    found = dict(database.get("tables", {}))
    for name in like.get("scattered", ()):
        parts_of = [found.pop(one) for one in like["partitions"][name] if one in found]
        if parts_of:
            found[name] = {"rows": sum(one["rows"] for one in parts_of)}
            if all("sum" in one for one in parts_of):
                found[name]["sum"] = str(sum(int(one["sum"]) for one in parts_of))
    return found


def _tables(expected: Mapping[str, Any], found: Mapping[str, Any], kept: _Kept) -> Iterator[str]:
    for name, wanted in expected.items():
        if not kept(name):
            continue
        there = found.get(name)
        if there is None:
            yield f"table {name} is missing"
        elif there["rows"] != wanted["rows"]:
            yield f"table {name} has {there['rows']} rows instead of {wanted['rows']}"
        elif "sum" in wanted and there.get("sum") != wanted["sum"]:
            yield f"table {name} has other content in its {wanted['rows']} rows"
    if kept.everything and expected:
        for name in sorted(found.keys() - expected.keys()):
            yield f"table {name} is not in the snapshot"


def _sequences(expected: Mapping[str, Any], found: Mapping[str, Any], kept: _Kept) -> Iterator[str]:
    for name, wanted in expected.items():
        if not kept(name):
            continue
        if name not in found:
            yield f"sequence {name} is missing"
        elif wanted["last"] is not None and not wanted["cycle"]:
            last = found[name]["last"]
            behind = last is None or (last - wanted["last"]) * wanted["step"] < 0
            if behind:
                yield f"sequence {name} is at {last} instead of {wanted['last']} or beyond"


def _large_objects(
    expected: Mapping[str, Any] | None, found: Mapping[str, Any] | None
) -> Iterator[str]:
    if expected is None:
        return
    there = found or {"rows": 0}
    if there["rows"] != expected["rows"]:
        yield f"there are {there['rows']} large objects instead of {expected['rows']}"
    elif "sum" in expected and there.get("sum", expected["sum"]) != expected["sum"]:
        yield f"the {expected['rows']} large objects have other content"


def _extensions(expected: Database, found: Database) -> Iterator[str]:
    """Their versions are those that the server has: pg_dump writes none down, and a newer one is
    what an update of the system brings.
    """
    if expected.get("partial") or not expected["objects"]:
        return
    there = found.get("extensions", {})
    for name, one in expected.get("extensions", {}).items():
        if name not in there:
            yield f"extension {name} is missing"
        elif there[name]["schema"] != one["schema"]:
            yield f"extension {name} is in {there[name]['schema']} instead of {one['schema']}"


def _objects(expected: Database, found: Database, kept: _Kept, *, rights: bool) -> Iterator[str]:
    """Definitions can be compared where the same major wrote them; elsewhere, what there is."""
    same = _major(expected) == _major(found)
    for name, made_of in expected["objects"].items():
        if not kept.everything and not _is_kept_table(name, kept):
            continue
        if name not in found["objects"]:
            yield f"{name} is missing"
        elif same and found["objects"][name] != made_of:
            yield f"{name} is defined in another way"
        elif rights and same and found["rights"].get(name) != expected["rights"].get(name):
            yield _other_rights(name, expected["rights"].get(name), found["rights"].get(name))


def _other_rights(name: str, wanted: Any, there: Any) -> str:
    (owner, grants), (owner_there, grants_there) = wanted or ["", ""], there or ["", ""]
    if owner != owner_there:
        return f"{name} belongs to {owner_there or 'nobody'} instead of {owner or 'nobody'}"
    lost = ", ".join(_without(grants, grants_there)) or "nothing"
    more = ", ".join(_without(grants_there, grants)) or "nothing"
    return f"{name}: other rights (lost: {lost}; gained: {more})"


def _without(grants: str, others: str) -> list[str]:
    known: Collection[str] = set(re.split("[,;]", others))
    return [one for one in re.split("[,;]", grants) if one and one not in known]


def _is_kept_table(name: str, kept: _Kept) -> bool:
    kind = next((one for one in TABLE_KINDS if name.startswith(f"{one} ")), "")
    return bool(kind) and kept(name.removeprefix(f"{kind} "))


def _major(database: Database) -> str:
    return str(database["server"]).partition(".")[0]
