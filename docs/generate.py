"""`make docs`: the reference pages that are made from the program itself.

`docs/reference/commands.md` comes from the tasks and the help of their options,
`docs/reference/spec.md` from the schemas. A test compares them with what this makes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from invoke.collection import Collection
from invoke.parser.argument import Argument
from invoke.tasks import Task

from runner.commands import namespace
from runner.spec.schema import FAMILIES, load_schemas

REFERENCE = Path(__file__).resolve().parent / "reference"
MADE = "<!-- Made by `make docs`. Change the program, not this page. -->\n"


def main() -> None:
    """Write the generated pages."""
    for path, text in pages().items():
        path.write_text(text)


def pages() -> dict[Path, str]:
    """The generated pages by their path."""
    return {
        REFERENCE / "commands.md": "".join(commands_page(namespace)),
        REFERENCE / "spec.md": "".join(spec_page()),
    }


def tasks(collection: Collection) -> dict[str, Task[Any]]:
    """The tasks by their name, in the order of the alphabet."""
    return {name: collection[name] for name in sorted(collection.task_names)}


@cache
def options_of(task: Task[Any]) -> list[Argument]:
    """A task's options. Invoke can tell their help once only, so this remembers them."""
    return task.get_arguments()


def commands_page(collection: Collection) -> Iterator[str]:
    """The page of all commands."""
    known = {name: options_of(task) for name, task in tasks(collection).items()}
    everywhere = {
        option.name
        for option in next(iter(known.values()))
        if all(option.name in {one.name for one in options} for options in known.values())
    }
    yield f"# Commands\n\n{MADE}\n"
    yield (
        "`holdfast` and `invoke`, in a folder with a `tasks.py`, run the same commands. A list is "
        "given by repeating its option or with commas. `holdfast COMMAND --help` prints the same "
        "as this page; the [exit codes](exit-codes.md) and the [JSON](json.md) have pages of their "
        "own.\n\n## Options of every command\n\n"
    )
    yield from options_table([one for one in next(iter(known.values())) if one.name in everywhere])
    for name, options in known.items():
        yield f"\n## {name}\n\n{described(collection[name])}\n"
        own = [one for one in options if one.name not in everywhere]
        if own:
            yield "\n"
            yield from options_table(own)


def described(task: Task[Any]) -> str:
    """A task's docstring, without the indentation of the code."""
    lines = [line.strip() for line in (task.__doc__ or "").strip().splitlines()]
    return "\n".join(lines)


def options_table(options: list[Argument]) -> Iterator[str]:
    """The rows of some options."""
    yield "| option | meaning |\n|---|---|\n"
    for option in sorted(options, key=lambda one: str(one.name)):
        value = "" if option.kind is bool else f" {str(option.name).strip('_').upper()}"
        many = ", …" if option.kind is list else ""
        yield f"| `{flag(option)}{value}`{many} | {cell(option.help or '')} |\n"


def flag(option: Argument) -> str:
    """An option as it is typed."""
    return f"--{str(option.name).strip('_').replace('_', '-')}"


def spec_page() -> Iterator[str]:
    """The page of all fields of a spec."""
    files = load_schemas().files
    root, common = files["spec.json"], files["common.json"]
    yield f"# The spec, field by field\n\n{MADE}\n{root['description']}\n\n"
    yield from fields_table(root)
    for family in FAMILIES:
        for name, schema in files.items():
            if name.startswith(f"{family}/"):
                kind = name.removeprefix(f"{family}/").removesuffix(".json")
                yield f"\n## {family}: {kind}\n\n{described_schema(schema)}"
                yield from fields_table(schema)
                yield from definitions(schema)
    yield from definitions(root)
    yield from definitions(common)


def definitions(schema: Mapping[str, Any]) -> Iterator[str]:
    """A section for each definition that stands on its own."""
    for name, definition in schema.get("definitions", {}).items():
        if name in FAMILIES:
            continue
        yield f"\n## {name}\n\n{described_schema(definition)}"
        if "properties" in definition:
            yield from fields_table(definition)


def described_schema(schema: Mapping[str, Any]) -> str:
    """A schema's description as a paragraph."""
    text = schema.get("description", "")
    return f"{text}\n\n" if text else ""


def fields_table(schema: Mapping[str, Any]) -> Iterator[str]:
    """The rows of a map's fields."""
    required = schema.get("required", ())
    yield "| field | value | default | meaning |\n|---|---|---|---|\n"
    for name, field in schema.get("properties", {}).items():
        default = "required" if name in required else defaulted(field)
        yield f"| `{name}` | {value_of(field)} | {default} | {cell(meaning(field))} |\n"


def meaning(field: Mapping[str, Any]) -> str:
    """A field's description: its own, or that of the common definition it refers to."""
    if "description" in field or "$ref" not in field:
        return str(field.get("description", ""))
    name = field["$ref"].rpartition("/")[2]
    files = load_schemas().files
    found = files["common.json"]["definitions"].get(name) or files["spec.json"]["definitions"][name]
    return str(found.get("description", ""))


def defaulted(field: Mapping[str, Any]) -> str:
    """A field's default as it would be written in a spec; empty when it has none."""
    default = field.get("default")
    if default is None or default in ([], {}):
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def value_of(field: Mapping[str, Any]) -> str:
    """What may be written for a field, in a few words."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return name if name in FAMILIES else f"[{name}](#{name})"
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return " · ".join(f"`{one}`" for one in field["enum"])
    if "anyOf" in field:
        return " or ".join(value_of(one) for one in field["anyOf"])
    kind = field.get("type", "anything")
    if kind == "array":
        return f"list of {value_of(field['items'])}"
    if kind == "object" and isinstance(field.get("additionalProperties"), Mapping):
        return f"map of {value_of(field['additionalProperties'])}"
    return " or ".join([kind] if isinstance(kind, str) else kind).replace("object", "map")


def cell(text: str) -> str:
    """Text that stays in one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    main()
