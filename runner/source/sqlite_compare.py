"""How the content of a staged SQLite file differs from the snapshot's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from runner.errors import PersonNeeded
from runner.source import Fingerprint
from runner.source.sqlite_names import FORMAT


def compare(expected: Fingerprint, found: Fingerprint) -> list[str]:
    """The differences, in words; empty when both are the same file, or the same content.

    Raises PersonNeeded when what differs may be only what cannot be checked here.
    """
    if expected.get("format") != FORMAT:
        raise PersonNeeded(
            f"The snapshot's fingerprint has the form {expected.get('format')!r}, not {FORMAT!r}.",
            remedy="Verify it with the version that wrote it.",
        )
    if found["file"]["sha256"] == expected["file"]["sha256"]:
        return []
    if found["check"]["verdict"] == "malformed":
        return [f"The database is malformed: {'; '.join(found['check']['words'][:3])}"]
    differences = [*_tables(expected, found), *_settings(expected, found)]
    if differences:
        return differences
    if expected["level"] != "content":
        return ["The file is not the one that was captured, and its rows were not hashed then."]
    unchecked = _unchecked(expected) | _unchecked(found)
    if unchecked:
        raise PersonNeeded(
            "The file is not byte for byte the one that was captured, and these tables cannot be "
            f"compared: {'; '.join(f'{name} ({why})' for name, why in sorted(unchecked.items()))}.",
            remedy="Compare them with the app that knows their collations and extensions.",
        )
    return []


def _settings(expected: Fingerprint, found: Fingerprint) -> Iterator[str]:
    for name, value in expected["settings"].items():
        if found["settings"].get(name) != value:
            yield f"{name} is {found['settings'].get(name)}, not {value}"
    if found["schema"] != expected["schema"]:
        yield "the schema differs"


def _tables(expected: Fingerprint, found: Fingerprint) -> Iterator[str]:
    before: Mapping[str, Any] = expected.get("tables", {})
    now: Mapping[str, Any] = found.get("tables", {})
    for name in sorted({*before, *now}):
        if name not in now:
            yield f"table {name} is missing"
        elif name not in before:
            yield f"table {name} was not in the snapshot"
        elif {"unchecked"} & {*before[name], *now[name]}:
            continue
        elif now[name]["rows"] != before[name]["rows"]:
            yield f"table {name} has {now[name]['rows']} rows, not {before[name]['rows']}"
        elif now[name].get("sha256") != before[name].get("sha256"):
            yield f"table {name} has other values in its {before[name]['rows']} rows"


def _unchecked(fingerprint: Fingerprint) -> dict[str, str]:
    return {
        name: table["unchecked"]
        for name, table in fingerprint["tables"].items()
        if "unchecked" in table
    }
