"""The schemas: where they are, which types they know, and what they say of one value.

`spec.json` is a plain file that editors use, so it lists the types. That list is made from the
files beside it: `python -m runner.spec.schema` writes it anew when a type was added.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from runner.spec.profile import FIXED

FAMILIES = ("source", "target")
ROOT = "spec.json"
COMMON = "common.json"


@dataclass(frozen=True)
class Node:
    """A place in a schema file."""

    schema: Mapping[str, Any]
    file: str  # relative to the schemas' folder; references start here


@dataclass
class Shape:
    """What the schemas say of one value, with references followed and conditions decided."""

    kind: str = ""  # the definition in common.json that it is: duration, size, secret, …
    types: set[str] = field(default_factory=set)  # JSON types that are allowed; empty: any
    properties: dict[str, Node] = field(default_factory=dict)
    others: Node | None = None  # what properties of any other name are
    items: Node | None = None

    def child(self, name: str) -> Node | None:
        """What the schemas say of a property; None where they know none of that name."""
        return self.properties.get(name, self.others)


@dataclass(frozen=True)
class Schemas:
    """All schema files, by their path in the folder."""

    files: Mapping[str, Mapping[str, Any]]
    digest: str

    @property
    def root(self) -> Node:
        """What the schemas say of a whole spec."""
        return Node(self.files[ROOT], ROOT)

    def follow(self, node: Node, reference: str) -> tuple[Node, str]:
        """Where a `$ref` leads, and the name of the definition if that is a common one."""
        path, _, pointer = reference.partition("#")
        file = posixpath.normpath(posixpath.join(posixpath.dirname(node.file), path))
        file = file if path else node.file
        found: Any = self.files[file]
        for part in pointer.strip("/").split("/") if pointer.strip("/") else ():
            found = found[part]
        return Node(found, file), pointer.rpartition("/")[2] if file == COMMON else ""

    def shape(self, node: Node | None, value: Any) -> Shape:
        """What the schemas say of `value` at `node`."""
        shape = Shape()
        waiting = [] if node is None else [node]
        while waiting:
            one = waiting.pop(0)
            if "$ref" in one.schema:
                target, kind = self.follow(one, one.schema["$ref"])
                shape.kind = shape.kind or kind
                waiting.append(target)
                continue
            _widen(shape, one)
            waiting.extend(
                Node(part.get("then", part), one.file)
                for part in one.schema.get("allOf", ())
                if _holds(part.get("if"), value)
            )
            branches = one.schema.get("anyOf", one.schema.get("oneOf", ()))
            waiting.extend(
                self._branches([Node(part, one.file) for part in branches], value, shape)
            )
        return shape

    def _branches(self, branches: list[Node], value: Any, shape: Shape) -> list[Node]:
        fitting = []
        for branch in branches:
            types = self.shape(branch, value).types
            shape.types |= types
            if not types or json_type(value) in types:
                fitting.append(branch)
        return fitting[:1]

    def default(self, node: Node) -> Any:
        """The default of a property; None if it has none."""
        while "default" not in node.schema and "$ref" in node.schema:
            node, _ = self.follow(node, node.schema["$ref"])
        return node.schema.get("default")

    def at(self, document: Any, place: tuple[str | int, ...]) -> Shape:
        """What the schemas say of the value that stands at `place` in a document."""
        node: Node | None = self.root
        for part in place:
            shape = self.shape(node, document)
            try:
                document = document[part]
            except (KeyError, IndexError, TypeError):
                document = None
            node = shape.items if isinstance(part, int) else shape.child(part)
        return self.shape(node, document)

    def question_of(self, kind: str) -> str | None:
        """The question that sources of a type answer, sql or redis; None: they hold no values."""
        answered: str | None = self.files[f"source/{kind}.json"].get("x-answers")
        return answered

    def types(self, family: str) -> list[str]:
        """The names of the known types of sources or targets."""
        return _types(self.files, family)


def json_type(value: Any) -> str:
    """The JSON type of a value; a text that stands for a number is a string."""
    names = {dict: "object", list: "array", bool: "boolean", int: "integer", float: "number"}
    return "null" if value is None else names.get(type(value), "string")


def _widen(shape: Shape, node: Node) -> None:
    schema = node.schema
    named = schema.get("type", ())
    shape.types |= {named} if isinstance(named, str) else set(named)
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if not named:
        shape.types |= {json_type(value) for value in values}
    for name, child in schema.get("properties", {}).items():
        shape.properties[name] = Node(child, node.file)
    if isinstance(schema.get("additionalProperties"), Mapping):
        shape.others = Node(schema["additionalProperties"], node.file)
    if isinstance(schema.get("items"), Mapping):
        shape.items = Node(schema["items"], node.file)


def _holds(condition: Mapping[str, Any] | None, value: Any) -> bool:
    """Whether an `if` on constant properties is true; a missing one is."""
    if condition is None:
        return True
    return isinstance(value, Mapping) and all(
        name in value and value[name] == wanted.get("const")
        for name, wanted in condition.get("properties", {}).items()
    )


def find_folder() -> Path:
    """The folder of the schemas: in the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "schema"
    return inside if inside.is_dir() else package.parent / "schema"


@cache
def load_schemas() -> Schemas:
    """All schemas, with the types that there are."""
    folder = find_folder()
    paths = [folder / ROOT, folder / COMMON]
    for family in FAMILIES:
        paths.extend(sorted((folder / family).glob("*.json")))
    digest = hashlib.sha256()
    files: dict[str, Any] = {}
    for path in paths:
        data = path.read_bytes()
        digest.update(data)
        files[path.relative_to(folder).as_posix()] = json.loads(data)
    files[ROOT] = with_types(files)
    return Schemas(files, digest.hexdigest())


def with_types(files: Mapping[str, Any]) -> dict[str, Any]:
    """The root schema, listing the types whose files are there."""
    root: dict[str, Any] = json.loads(json.dumps(files[ROOT]))
    for family in FAMILIES:
        types = _types(files, family)
        root["definitions"][family] = {
            "type": "object",
            "required": ["type"],
            "properties": {"type": {"enum": types, "description": f"The type of the {family}."}},
            "allOf": [
                {
                    "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
                    "then": {"$ref": f"{family}/{name}.json"},
                }
                for name in types
            ],
        }
    overridable = (name for name in root["properties"] if name not in FIXED)
    root["definitions"]["profile"]["properties"] = {
        name: {"description": root["properties"][name]["description"]} for name in overridable
    }
    return root


def _types(files: Mapping[str, Any], family: str) -> list[str]:
    prefix = f"{family}/"
    return sorted(
        name.removeprefix(prefix).removesuffix(".json") for name in files if name.startswith(prefix)
    )


if __name__ == "__main__":
    place = find_folder() / ROOT
    text = json.dumps(load_schemas().files[ROOT], indent=2, ensure_ascii=False)
    place.write_text(text + "\n", encoding="utf-8")
