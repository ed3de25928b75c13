"""The schemas: what editors and the reference need of them, and what they say of a value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from runner.spec.schema import FAMILIES, ROOT, Node, find_folder, load_schemas

SCHEMAS = load_schemas()


def test_the_file_for_editors_lists_the_types_that_are_there() -> None:
    """`python -m runner.spec.schema` writes it anew."""
    written = json.loads((find_folder() / ROOT).read_text())
    assert written == SCHEMAS.files[ROOT]


@pytest.mark.parametrize("file", sorted(SCHEMAS.files))
def test_a_schema_is_a_schema(file: str) -> None:
    Draft7Validator.check_schema(SCHEMAS.files[file])


@pytest.mark.parametrize("file", sorted(SCHEMAS.files))
def test_every_reference_leads_somewhere(file: str) -> None:
    for part in parts(SCHEMAS.files[file]):
        if "$ref" in part:
            found, _ = SCHEMAS.follow(Node(part, file), part["$ref"])
            assert found.schema


@pytest.mark.parametrize("file", sorted(SCHEMAS.files))
def test_every_property_is_described(file: str) -> None:
    for part in parts(SCHEMAS.files[file]):
        for name, schema in part.get("properties", {}).items():
            if set(schema) == {"const"}:
                continue
            node = Node(schema, file)
            while "description" not in node.schema and "$ref" in node.schema:
                node, _ = SCHEMAS.follow(node, node.schema["$ref"])
            assert node.schema.get("description"), f"{file}: {name}"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_type_is_closed_and_names_itself(family: str) -> None:
    for name in SCHEMAS.types(family):
        schema = SCHEMAS.files[f"{family}/{name}.json"]
        assert schema["additionalProperties"] is False
        assert schema["properties"]["type"]["const"] == name


def test_a_shape_follows_references_and_types() -> None:
    document = {"targets": {"disk": {"type": "local", "path": "x", "keep": {"within": "1d"}}}}
    assert SCHEMAS.at(document, ("targets", "disk", "path")).kind == "path"
    assert SCHEMAS.at(document, ("targets", "disk", "keep")).kind == "keep"
    assert SCHEMAS.at(document, ("targets", "disk", "keep", "within")).kind == "duration"
    assert SCHEMAS.at(document, ("recovery", 0, "run")).kind == "command"
    assert SCHEMAS.at(document, ("recovery", 0, "restore")).types == {"string", "array"}
    assert SCHEMAS.at(document, ("nowhere", "at", 5, "all")).kind == ""


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Every map in a schema that may be a schema."""
    if isinstance(schema, dict):
        yield schema
        for one in schema.values():
            yield from parts(one)
    elif isinstance(schema, list):
        for one in schema:
            yield from parts(one)


@pytest.mark.parametrize(
    "file", sorted((find_folder() / "target").glob("*.json")), ids=lambda file: file.stem
)
def test_every_type_of_target_has_what_all_have_in_common(file: Path) -> None:
    properties = json.loads(file.read_text())["properties"]
    assert properties["keep"]["$ref"] == "../common.json#/definitions/keep"
    assert properties["bandwidth"]["$ref"] == "../common.json#/definitions/size"
