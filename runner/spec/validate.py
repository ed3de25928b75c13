"""A document against the schemas, told in words a person can act on.

jsonschema takes as long to import as a whole `list` may take, so a document that was found
valid is remembered by its digest, in a file that may be lost at any time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.spec.marks import Place, nearest
from runner.spec.profile import FIXED
from runner.spec.schema import Schemas, json_type

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

# What is wrong, where, and whether it is the key rather than the value.
Complaint = tuple[Place, str, bool]

MOST_REMEMBERED = 20
_BASE = "http://holdfast.invalid/"  # never asked: all schemas are at hand
_WORDS = {
    "object": "a map",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}
_HIDDEN = ("SECRET-KEY", "PRIVATE KEY")


def remembered(file: Path, digest: str) -> bool:
    """Whether a document of that digest was found valid before."""
    try:
        known = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(known, list) and digest in known


def remember(file: Path, digest: str) -> None:
    """Note that a document is valid, where the folder exists and can be written."""
    if not file.parent.is_dir():
        return
    from runner.durable import write_bytes

    try:
        known = json.loads(file.read_bytes())
    except (OSError, ValueError):
        known = []
    kept = [one for one in known if isinstance(one, str)] if isinstance(known, list) else []
    try:
        write_bytes(file, json.dumps([digest, *kept][:MOST_REMEMBERED]).encode())
    except OSError:
        return  # the next command validates again, that is all


class Validation:
    """Finds everything in a document that the schemas do not allow."""

    def __init__(self, schemas: Schemas, document: Any, written: Mapping[Place, str]) -> None:
        self.schemas = schemas
        self.document = document
        self.written = written  # as typed by the user, where something was expanded

    def complaints(self) -> Iterator[Complaint]:
        """Every complaint; several may be about one place."""
        from jsonschema import Draft7Validator, validators
        from referencing import Registry, Resource
        from referencing.jsonschema import DRAFT7

        registry: Any = Registry().with_resources(
            # a `$schema` of its own would bring the ordinary reading of patterns back
            (_BASE + name, Resource.from_contents(_without(schema, "$schema"), DRAFT7))
            for name, schema in self.schemas.files.items()
        )
        exact: Any = validators.extend(  # type: ignore[no-untyped-call]
            Draft7Validator, {"pattern": _pattern}
        )
        validator = exact({"$ref": f"{_BASE}spec.json"}, registry=registry)
        for error in validator.iter_errors(self.document):
            yield from self._told(error, tuple(error.absolute_path))

    def _told(self, error: ValidationError, place: Place) -> Iterator[Complaint]:
        if "propertyNames" in error.schema_path:
            yield (*place, str(error.instance)), self._wrong(error, place), True
            return
        several: dict[str, Callable[[ValidationError, Place], Iterable[Complaint]]] = {
            "additionalProperties": self._unknown,
            "required": self._missing,
            "dependencies": self._alone,
            "anyOf": self._no_branch,
            "oneOf": self._no_branch,
        }
        if str(error.validator) in several:
            yield from several[str(error.validator)](error, place)
        else:
            yield place, self._wrong(error, place), False

    def _unknown(self, error: ValidationError, place: Place) -> Iterator[Complaint]:
        known = mapping(error.schema).get("properties", {})
        patterns = ("x-",) if not place else ()
        for name in mapping(error.instance):
            if name in known or name.startswith(patterns):
                continue
            if place[:1] == ("profiles",) and len(place) == 2 and name in FIXED:
                message = f"`{name}` is the same in every profile: write it at the top only."
                yield (*place, name), message, True
                continue
            hint = nearest(name, known) or f" Known: {', '.join(known)}."
            yield (*place, name), f"The key `{name}` is not known here.{hint}", True

    def _missing(self, error: ValidationError, place: Place) -> Iterator[Complaint]:
        known = mapping(error.schema).get("properties", {})
        for name in mapping(error.schema).get("required", ()):
            if name not in mapping(error.instance):
                words = known.get(name, {}).get("description", "")
                yield (*place, name), f"`{name}` is missing. {words}".strip(), False

    def _alone(self, error: ValidationError, place: Place) -> Iterator[Complaint]:
        there = mapping(error.instance)
        for name, others in mapping(error.validator_value).items():
            lacking = [other for other in others if name in there and other not in there]
            if lacking:
                yield (*place, name), f"`{name}` needs `{lacking[0]}` beside it.", True

    def _no_branch(self, error: ValidationError, place: Place) -> Iterator[Complaint]:
        branches: dict[Any, list[ValidationError]] = {}
        for one in error.context or ():
            branches.setdefault(one.schema_path[0], []).append(one)
        fitting = [
            errors
            for errors in branches.values()
            if not any(one.validator == "type" and not one.path for one in errors)
        ]
        if len(fitting) != 1:
            yield place, self._wrong(error, place), False
            return
        for one in fitting[0]:
            yield from self._told(one, (*place, *one.path))

    def _wrong(self, error: ValidationError, place: Place) -> str:
        kind = self.schemas.at(self.document, place).kind
        if kind == "secret" or (place and place[-1] == "secret"):
            return self._not_a_secret(error, place)
        found = self._shown(error.instance, place)
        limit: Any = error.validator_value
        words = _described(error.schema)
        messages: dict[str, Callable[[], str]] = {
            "type": lambda: f"This must be {_types(limit)}, not {found}. {words}",
            "enum": lambda: _choice(error.instance, found, limit),
            "const": lambda: f"This must be {json.dumps(limit)}, not {found}.",
            "pattern": lambda: f"{found} does not fit here. {words}",
            "not": lambda: _forbidden(limit, found, words),
            "minimum": lambda: f"This must be at least {limit}, not {found}.",
            "maximum": lambda: f"This must be at most {limit}, not {found}.",
            "minLength": lambda: f"This must not be empty. {words}",
            "maxLength": lambda: f"This must have at most {limit} characters.",
            "minItems": lambda: f"This list must not be empty. {words}",
            "minProperties": lambda: f"This map must not be empty. {words}",
            "uniqueItems": lambda: "This list names something twice. Remove one.",
            "anyOf": lambda: self._expected(error, place, found),
            "oneOf": lambda: self._expected(error, place, found),
        }
        told = messages.get(str(error.validator))
        return (told() if told else f"{found} does not fit here. {words}").strip()

    def _expected(self, error: ValidationError, place: Place, found: str) -> str:
        types = sorted(self.schemas.at(self.document, place).types)
        return f"This must be {_types(types)}, not {found}. {_described(error.schema)}"

    def _not_a_secret(self, error: ValidationError, place: Place) -> str:
        """Says nothing of what was found: it may be the secret itself."""
        text = self.written.get(place, "")
        name = text[2:-1] if text.startswith("${") and text[2:-1].isidentifier() else "NAME"
        what = "is a reference" if error.validator == "pattern" else "stands here by reference"
        return (
            f'A secret {what}, never the value itself. Write {{secret: "env:{name}"}}, '
            '{secret: "file:PATH"}, {secret: "command:…"} or {secret: "credential:NAME"}.'
        )

    def _shown(self, value: Any, place: Place) -> str:
        """What was found, as the user wrote it: what a variable held is not repeated."""
        if isinstance(value, Mapping | list) or value is None:
            return _WORDS[json_type(value)]
        text = self.written.get(place, value)
        if isinstance(text, str) and any(mark in text for mark in _HIDDEN):
            return "a private key"
        shown = json.dumps(text, ensure_ascii=False)
        return shown if len(shown) <= 60 else shown[:57] + "…"


def _pattern(_: Any, pattern: str, value: Any, __: Any) -> Iterator[ValidationError]:
    """As the standard reads patterns: `$` is the end, where Python allows a line end after it."""
    from jsonschema.exceptions import ValidationError

    exact = f"{pattern[:-1]}\\Z" if pattern.endswith("$") else pattern
    if isinstance(value, str) and not re.search(exact, value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


def _types(wanted: Any) -> str:
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    return " or ".join(_WORDS[name] for name in names)


def _choice(value: Any, found: str, known: Iterable[Any]) -> str:
    names = [str(one) for one in known]
    listed = ", ".join(names) or "none is there"
    return f"{found} is not known here.{nearest(str(value), names)} Known: {listed}."


def _forbidden(schema: Any, found: str, words: str) -> str:
    together = mapping(schema).get("required")
    if together:
        return f"`{'` and `'.join(together)}` exclude each other. Remove one."
    return f"{found} is reserved. {words}"


def _described(schema: Any) -> str:
    return str(mapping(schema).get("description", ""))


def _without(schema: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != name}


def mapping(value: Any) -> Mapping[str, Any]:
    """A value of a document that need not be valid; empty where it is no map."""
    return value if isinstance(value, Mapping) else {}
