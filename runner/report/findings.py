"""The findings of drills: a small file beside the reports that people fill in.

What is open is told in every report until somebody writes a date to `closed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runner.durable import write_bytes

NAME = "findings.yaml"
FIELDS = ("finding", "owner", "due", "drill", "closed")
EXAMPLE = """\
# Findings of drills. Each open one stands in every report until `closed` has a date.
#
# - finding: The key in the safe was hard to find.
#   owner: mara
#   due: 2026-12-31
#   drill: 20261120T021500Z-drill-7f3a9c
#   closed:
"""


def open_findings(folder: Path) -> tuple[list[dict[str, str]], str]:
    """The open findings of `folder`, and what is wrong with their file (empty: nothing).

    The file is made, with an example, where there is none. A file that cannot be read never
    fails a drill, but the report says so: nobody shall believe that nothing is open.
    """
    path = folder / NAME
    try:
        if not path.exists():
            write_bytes(path, EXAMPLE.encode())
        entries = _parsed(path.read_text())
    except (OSError, ValueError) as error:
        return [], f"{path} cannot be read: {error}"
    return [one for one in entries if not one["closed"]], ""


def _parsed(text: str) -> list[dict[str, str]]:
    import yaml

    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    if document is None:
        return []
    if not isinstance(document, list):
        raise ValueError("it is no list of findings")  # noqa: TRY004 - of a file, not of a caller
    return [_entry(one) for one in document]


def _entry(one: Any) -> dict[str, str]:
    if not isinstance(one, Mapping) or not one.get("finding"):
        raise ValueError(f"each entry has a `finding`, and this has none: {one!r}"[:200])
    unknown = sorted(str(name) for name in one if name not in FIELDS)
    if unknown:
        raise ValueError(f"`{unknown[0]}` is unknown; known: {', '.join(FIELDS)}")
    return {name: "" if one.get(name) is None else str(one[name]) for name in FIELDS}
