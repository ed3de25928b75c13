"""From text to values: expand and type what was written, then fill defaults and convert.

The schemas drive both: what a value becomes is told by the definition that its schema names.
Both passes take any shape of document, since they run before it is known to be valid.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.secret import Secret
from runner.spec.document import Plain
from runner.spec.expand import BadReference, expand
from runner.spec.marks import Place
from runner.spec.model import Keep
from runner.spec.schema import Node, Schemas, Shape
from runner.spec.units import parse_duration, parse_size

Tell = Callable[[Place, str], None]

# A duration of nothing, and the end of the places where it is none.
_NOTHING = re.compile(r"([0.]+[a-z]+)+")
_OF_NOTHING: Mapping[Place, str] = {
    ("timeout",): "A timeout of {} gives up at once. Write a longer one, or leave it out.",
    ("keep", "within"): "Nothing is younger than {}, and a rule that keeps nothing is none: "
    "without another one all is kept for ever. Write a longer one, or leave it out.",
}
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,17})\.[0-9]{1,17}")
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


def typed(text: str, wanted: set[str]) -> Any:
    """The value that a scalar's text means where these JSON types are wanted.

    Where text is wanted too, only what stands without quotes may become something else.
    """
    free = not wanted or ("string" in wanted and len(wanted) > 1)
    if wanted == {"string"} or (free and not isinstance(text, Plain)):
        return str(text)
    if text in _TRUTH and (not wanted or "boolean" in wanted):
        return _TRUTH[text]
    if _INTEGER.fullmatch(text) and (not wanted or wanted & {"integer", "number"}):
        return int(text)
    if _NUMBER.fullmatch(text) and (not wanted or "number" in wanted):
        return float(text)
    return str(text)


@dataclass
class Expansion:
    """Replaces `${NAME}` and types scalars. Nothing is replaced in commands."""

    schemas: Schemas
    environment: Mapping[str, str]
    tell: Tell
    written: dict[Place, str] = field(default_factory=dict)  # the text of what was replaced
    unset: dict[Place, tuple[str, ...]] = field(default_factory=dict)  # names without a value

    def value(self, value: Any, node: Node | None, place: Place = ()) -> Any:
        """`value` as declared: plain JSON."""
        shape = self.schemas.shape(node, value)
        if isinstance(value, dict):
            return {
                name: self.value(one, shape.child(name), (*place, name))
                for name, one in value.items()
            }
        if isinstance(value, list):
            return [
                self.value(one, shape.items, (*place, index)) for index, one in enumerate(value)
            ]
        if not isinstance(value, str):
            return value
        if node is None or shape.kind == "command":
            return typed(value, shape.types)
        return typed(self._expanded(value, place), shape.types)

    def _expanded(self, text: str, place: Place) -> str:
        if "$" not in text:
            return text
        try:
            expanded, unset = expand(text, self.environment)
        except BadReference as error:
            self.tell(place, str(error))
            return text
        if not expanded.isascii() and expanded != expanded.encode(errors="replace").decode():
            self.tell(place, "A variable in it holds bytes that are not UTF-8. Set it anew.")
            return text
        self.written[place] = text
        if unset:
            self.unset[place] = unset
        return Plain(expanded)


@dataclass
class Completion:
    """Fills defaults, and turns durations, sizes, secrets and retentions into values."""

    schemas: Schemas
    folder: Path  # relative secret files start here
    environment: Mapping[str, str]  # secrets are read from it
    unset: Mapping[Place, tuple[str, ...]]  # what cannot be converted yet
    tell: Tell

    def value(self, value: Any, node: Node | None, place: Place = ()) -> Any:
        """`value` in the form that the models hold."""
        shape = self.schemas.shape(node, value)
        if isinstance(value, dict):
            return self._mapping(value, shape, place)
        if isinstance(value, list):
            return [
                self.value(one, shape.items, (*place, index)) for index, one in enumerate(value)
            ]
        if shape.kind in ("duration", "size") and isinstance(value, str):
            return self._measure(value, shape.kind, place)
        if shape.kind == "path" and isinstance(value, str):
            self._check_home(value, place)
        return value

    def _mapping(self, value: dict[str, Any], shape: Shape, place: Place) -> Any:
        reference = value.get("secret")
        if shape.kind == "secret" and isinstance(reference, str):
            if reference.startswith("file:"):
                self._check_home(reference.removeprefix("file:"), (*place, "secret"))
            return Secret(reference, self.folder, self.environment)
        whole = dict(value)
        for name, child in shape.properties.items():
            default = self.schemas.default(child)
            if name not in whole and default is not None:
                whole[name] = copy.deepcopy(default)
        completed = {
            name: self.value(one, shape.child(name), (*place, name)) for name, one in whole.items()
        }
        if shape.kind == "keep" and completed.keys() <= Keep.__dataclass_fields__.keys():
            return Keep(**completed)
        return completed

    def _check_home(self, path: str, place: Place) -> None:
        try:
            Path(path).expanduser()
        except RuntimeError:
            message = "Nobody knows the home folder that `~` stands for here. Write the whole path."
            self.tell(place, message)

    def _measure(self, text: str, kind: str, place: Place) -> Any:
        if place in self.unset:
            return text
        words = _OF_NOTHING.get(place[-2:], _OF_NOTHING.get(place[-1:]))
        if kind == "duration" and words is not None and _NOTHING.fullmatch(text):
            self.tell(place, words.format(text))
        try:
            return parse_duration(text) if kind == "duration" else parse_size(text)
        except ValueError as error:
            self.tell(place, str(error))
            return text
