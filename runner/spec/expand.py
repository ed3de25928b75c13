"""`${NAME}` in a spec, and the env files that give names a value."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from runner.spec.marks import Problem

MOST_BYTES = 1024 * 1024

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_REFERENCE = re.compile(rf"\$(?:(\$)|\{{({_NAME})(:-([^${{}}]*))?\}}|(?=[A-Za-z_{{]))")
_LINE = re.compile(rf"\s*(?:export\s+)?({_NAME})\s*=\s*(.*?)\s*", re.DOTALL)
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?', re.DOTALL)
_SINGLE = re.compile(r"'([^']*)'\s*(?:#.*)?")
_COMMENT = re.compile(r"(^|\s)#.*")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


class BadReference(ValueError):
    """A `$` that means nothing."""


def expand(text: str, environment: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """`text` with its references replaced, and the names that have no value.

    `${NAME:-default}` takes the default where NAME is unset or empty; `$$` is `$`. A reference
    without a value stays as written. Raises BadReference with the remedy.
    """
    unset: list[str] = []

    def value(match: re.Match[str]) -> str:
        dollar, name, optional, default = match.groups()
        if dollar:
            return "$"
        if name is None:
            raise BadReference(
                "A `$` begins a reference, ${NAME} or ${NAME:-default}. Write $$ for a plain `$`."
            )
        if optional:
            return environment.get(name) or str(default)
        if name not in environment:
            unset.append(name)
        return environment.get(name, match[0])

    return _REFERENCE.sub(value, text), tuple(dict.fromkeys(unset))


def read_env_file(file: Path) -> tuple[dict[str, str], list[Problem]]:
    """The KEY=VALUE lines of a file, and what is wrong with it; a missing file has none.

    `export ` is allowed, and so are comments, 'literal' and "escaped" values, which may go over
    several lines. Nothing is expanded.
    """
    if not file.exists():
        return {}, []
    try:
        with file.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        return {}, [Problem(str(file), 1, 1, "", f"The env_file cannot be read: {reason}.")]
    if len(data) > MOST_BYTES or "\0" in text:
        message = "This is no env_file: it is larger than 1 MiB, or binary."
        return {}, [Problem(str(file), 1, 1, "", message)]
    values: dict[str, str] = {}
    problems = []
    lines = enumerate(text.replace("\r\n", "\n").split("\n"), 1)
    for number, line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line)
        value = _unquoted(match[2]) if match else None
        if match is not None and value is None:
            value = _over_lines(line[match.start(2) :], (following for _, following in lines))
        if match is None or value is None:
            message = "This is not KEY=VALUE. Quote the value, close its quote, or comment it out."
            problems.append(Problem(str(file), number, 1, "", message))
        else:
            values[match[1]] = value
    return values, problems


def _over_lines(begun: str, lines: Iterable[str]) -> str | None:
    """The value whose quote is closed in a later line; None where none closes it."""
    gathered = [begun]
    for line in lines:
        gathered.append(line)
        if begun[0] in line and (value := _unquoted("\n".join(gathered))) is not None:
            return value
    return None


def _unquoted(text: str) -> str | None:
    """The value of a line; None where a quote is not closed."""
    if text.startswith('"'):
        double = _DOUBLE.fullmatch(text)
        return double and re.sub(
            r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), double[1]
        )
    if text.startswith("'"):
        single = _SINGLE.fullmatch(text)
        return single and single[1]
    return _COMMENT.sub("", text).rstrip()
