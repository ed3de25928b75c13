"""YAML with positions: a file becomes plain values, and marks of where each of them stands.

Scalars stay text until the schema types them: `no`, `22:30` and `010` mean what they say. A
`Plain` was written without quotes, and only such a one may become a number or a truth value
where the schema leaves the choice.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from runner.errors import SpecError
from runner.spec.marks import Mark, Marks, Place, Problem, written

MOST_BYTES = 1024 * 1024
MOST_VALUES = 20_000  # after aliases are followed
MOST_LEVELS = 40
_TOO_MANY = f"This is more than {MOST_VALUES} values, with aliases followed. Make it smaller."
_TOO_DEEP = f"This is nested deeper than {MOST_LEVELS} levels. Make it flatter."

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_TEXT = "tag:yaml.org,2002:str"
_NULL = "tag:yaml.org,2002:null"
_MERGE = "tag:yaml.org,2002:merge"
_KNOWN_TAGS = frozenset({_TEXT, _NULL, _MERGE, "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})


class Plain(str):
    """A scalar written without quotes."""

    __slots__ = ()


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Recognises null and merge keys, and nothing else."""

    yaml_implicit_resolvers = {  # noqa: RUF012 the base class declares it so
        "~": [(_NULL, re.compile("^~$"))],
        "n": [(_NULL, re.compile("^null$"))],
        "": [(_NULL, re.compile("^$"))],
        "<": [(_MERGE, re.compile("^<<$"))],
    }


def read(file: Path) -> tuple[Any, Marks, bytes]:
    """The values of a YAML file, their marks, and the bytes they were read from.

    Raises SpecError, with every problem found.
    """
    data = _bytes(file)
    text = _text(file, data)
    try:
        _refuse_depth(file, text)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        raise refused(_syntax(file, error)) from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        words = " ".join(str(error).split())[:200]
        raise refused(Problem(str(file), 1, 1, "", f"This is not YAML: {words}.")) from error
    if node is None:
        message = "The file is empty. `holdfast init` writes a first spec."
        raise refused(Problem(str(file), 1, 1, "", message))
    reader = _Reader(str(file))
    value = reader.value(node, ())
    if reader.problems:
        raise refused(*reader.problems)
    return value, Marks(str(file), reader.keys, reader.values), data


def refused(*problems: Problem) -> SpecError:
    """The error that tells these problems, in the order of the file."""
    found = sorted(dict.fromkeys(problems), key=lambda one: (one.line, one.column))
    first = found[0]
    others = len(found) - 1
    more = f" (and {others} more problem{'s' if others > 1 else ''})" if others else ""
    where = {"file": first.file, "line": first.line, "column": first.column}
    return SpecError(f"{first}{more}", problems=found, **where)


def _bytes(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            data = stream.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        message = "There is no such file. `holdfast init` writes a first spec."
        raise refused(Problem(str(file), 1, 1, "", message)) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        message = f"The file cannot be read: {reason}. Give a readable file with --file."
        raise refused(Problem(str(file), 1, 1, "", message)) from error
    if len(data) > MOST_BYTES:
        message = "The file is larger than 1 MiB. A spec declares; put data into other files."
        raise refused(Problem(str(file), 1, 1, "", message))
    return data


def _text(file: Path, data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        message = "This byte is not UTF-8. Save the file as UTF-8."
        raise refused(
            _problem_after(file, before.decode("utf-8-sig", "replace"), message)
        ) from error
    control = _CONTROL.search(text)
    if control is not None:
        message = f"The control character U+{ord(control[0]):04X} stands here. Remove it."
        raise refused(_problem_after(file, text[: control.start()], message))
    return text


def _refuse_depth(file: Path, text: str) -> None:
    """Composing recurses in C, where a deep document ends the process, so look before."""
    level = 0
    for event in yaml.parse(text, Loader=_Loader):
        level += isinstance(event, yaml.CollectionStartEvent)
        level -= isinstance(event, yaml.CollectionEndEvent)
        if level > MOST_LEVELS:
            mark = _mark(event)
            raise refused(Problem(str(file), mark.line, mark.column, "", _TOO_DEEP))


def _problem_after(file: Path, before: str, message: str) -> Problem:
    line = before.count("\n") + 1
    return Problem(str(file), line, len(before) - before.rfind("\n"), "", message)


def _syntax(file: Path, error: yaml.MarkedYAMLError) -> Problem:
    unclosed = error.problem == "found unexpected end of stream"
    mark = error.context_mark if unclosed else error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    words = " ".join(part for part in (error.context, error.problem) if part)
    if "cannot start any token" in words:
        words += "; indent with spaces, and quote text that begins with a special character"
    if "flow mapping" in words:
        words += '; quote text that has a brace, a bracket or a comma: "${NAME}"'
    return Problem(str(file), line, column, "", f"This is not YAML: {words}.")


class _Reader:
    """Turns nodes into values, once for each place where they are used."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.keys: dict[Place, Mark] = {}
        self.values: dict[Place, Mark] = {}
        self.problems: list[Problem] = []
        self.count = 0

    def value(self, node: yaml.Node, place: Place) -> Any:
        self._count(node, place)
        self.values[place] = _mark(node)
        if node.tag not in _KNOWN_TAGS:
            self._tell(node, place, f"The tag {node.tag!r} is not allowed. Write plain values.")
            return None
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(one, (*place, index)) for index, one in enumerate(node.value)]
        return self._scalar(node, place) if isinstance(node, yaml.ScalarNode) else None

    def _mapping(self, node: yaml.MappingNode, place: Place) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, child in node.value:
            if key.tag == _MERGE:
                for inherited, pair in self._merged(child, place, len(place)):
                    merged.setdefault(inherited, pair)
                continue
            name = self._name(key, place)
            if name is None:
                continue
            if name in own:
                first = self.keys[(*place, name)].line
                message = f"The key is already there, in line {first}. Remove one of them."
                self._tell(key, (*place, name), message)
                continue
            self.keys[(*place, name)] = _mark(key)
            own[name] = self.value(child, (*place, name))
        for name, (key, child) in merged.items():
            if name not in own:
                self.keys[(*place, name)] = _mark(key)
                own[name] = self.value(child, (*place, name))
        return own

    def _merged(
        self, node: yaml.Node, place: Place, level: int
    ) -> Iterator[tuple[str, tuple[yaml.Node, yaml.Node]]]:
        """What `<<` brings, what wins first."""
        self._count(node, place, level)
        if isinstance(node, yaml.SequenceNode):
            for one in node.value:
                yield from self._merged(one, place, level + 1)
        elif isinstance(node, yaml.MappingNode):
            later = []
            for key, child in node.value:
                if key.tag == _MERGE:
                    later.append(child)
                elif (name := self._name(key, place)) is not None:
                    yield name, (key, child)
            for child in later:
                yield from self._merged(child, place, level + 1)
        else:
            self._tell(node, place, "`<<` merges a map, or a list of maps. Give it an alias.")

    def _name(self, key: yaml.Node, place: Place) -> str | None:
        if isinstance(key, yaml.ScalarNode) and key.tag in (_TEXT, _NULL):
            return str(self._scalar(key, place) or key.value)
        self._tell(key, place, "A key must be plain text.")
        return None

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> str | None:
        if node.tag == _NULL:
            return None
        text: str = node.value
        if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
            self._tell(node, place, "The text holds a character that no program can take.")
        return text if node.style else Plain(text)

    def _count(self, node: yaml.Node, place: Place, level: int = 0) -> None:
        self.count += 1
        if self.count > MOST_VALUES:
            message = _TOO_MANY
        elif max(len(place), level) > MOST_LEVELS:
            message = _TOO_DEEP
        else:
            return
        mark = _mark(node)
        raise refused(Problem(self.file, mark.line, mark.column, "", message))

    def _tell(self, node: yaml.Node, place: Place, message: str) -> None:
        mark = _mark(node)
        self.problems.append(Problem(self.file, mark.line, mark.column, written(place), message))


def _mark(item: yaml.Node | yaml.Event) -> Mark:
    start = item.start_mark
    return Mark() if start is None else Mark(start.line + 1, start.column + 1)
