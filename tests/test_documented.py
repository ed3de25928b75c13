"""What the program can do stands in the docs, and what the docs say can be done."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyrage
import pytest

from docs import generate
from runner import errors
from runner.commands import namespace
from runner.spec.schema import load_schemas
from tests.tools import ROOT, Program

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TASKS = generate.tasks(namespace)
CORE_FLAGS = {"--help", "--version", "--list"}

BLOCK = re.compile(r"^```([a-z ]*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`((?:holdfast|invoke) [^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# What may stand before a command: a step of CI, a line of a unit, five fields of a crontab.
PREFIX = re.compile(r"^(- )?(run: |ExecStart=|(\S+ ){5}(?=\S*holdfast))")
ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def commands_in(page: Path) -> Iterator[list[str]]:
    """Every command line of ours that a page shows, as words after the program's name."""
    text = page.read_text()
    lines = SPAN.findall(text)
    for language, block in BLOCK.findall(text):
        if language in ("sh", "console", "ini", "yaml"):
            joined = block.replace("\\\n", " ")
            lines += [line.strip().removeprefix("$ ") for line in joined.splitlines()]
    for line in lines:
        try:
            words = shlex.split(PREFIX.sub("", line), comments=True)
        except ValueError:
            continue
        while words and ASSIGNMENT.fullmatch(words[0]):
            words.pop(0)
        if words and words[0].rpartition("/")[2] in ("holdfast", "invoke") and len(words) > 1:
            yield words[1:]


@pytest.mark.parametrize("path", generate.pages(), ids=page_name)
def test_generated_pages_are_up_to_date(path: Path) -> None:
    assert path.read_text() == generate.pages()[path], "run `make docs`"


@pytest.mark.parametrize("name", TASKS)
def test_every_command_and_option_has_help(name: str) -> None:
    assert generate.described(TASKS[name])
    assert [one.name for one in generate.options_of(TASKS[name]) if not one.help] == []


def fields(schema: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Every field that a schema file names, with where it stands."""
    if isinstance(schema, dict):
        for name, field in schema.get("properties", {}).items():
            yield f"{place}.{name}", field
        for name, part in schema.items():
            if name not in ("if", "not"):
                yield from fields(part, f"{place}.{name}")
    elif isinstance(schema, list):
        for number, part in enumerate(schema):
            yield from fields(part, f"{place}[{number}]")


@pytest.mark.parametrize("file", load_schemas().files)
def test_every_field_has_a_description(file: str) -> None:
    schema = load_schemas().files[file]
    bare = [
        place
        for place, field in fields(schema, file)
        if not field.get("description") and "$ref" not in field and field.get("const") is None
    ]
    assert bare == []


def test_every_exit_code_and_kind_of_error_is_explained() -> None:
    kinds = {
        (one.exit_code, one.kind)
        for one in vars(errors).values()
        if isinstance(one, type) and issubclass(one, errors.HoldfastError)
    }
    codes = (ROOT / "docs/reference/exit-codes.md").read_text()
    json = (ROOT / "docs/reference/json.md").read_text()
    assert [code for code, _ in sorted(kinds) if f"\n| {code} |" not in codes] == []
    assert "\n| 0 |" in codes
    assert [kind for _, kind in sorted(kinds) if f"`{kind}`" not in json] == []


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_shown_command_lines_exist(page: Path) -> None:
    wrong = []
    for name, *rest in commands_in(page):
        flags = {word.partition("=")[0] for word in rest if word.startswith("--")}
        if name in TASKS:
            known = {generate.flag(one) for one in generate.options_of(TASKS[name])}
            wrong += [f"{name} {flag}" for flag in sorted(flags - known - CORE_FLAGS)]
        elif name not in CORE_FLAGS and not name.isupper():
            wrong.append(name)
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = [
        link
        for link in LINK.findall(page.read_text())
        if not link.startswith(("http://", "https://", "#"))
        if not (page.parent / link.partition("#")[0]).exists()
    ]
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_shown_specs_are_valid(
    page: Path, holdfast: Callable[..., Program], tmp_path: Path
) -> None:
    recipient = str(pyrage.x25519.Identity.generate().to_public())
    for language, block in BLOCK.findall(page.read_text()):
        if language == "yaml" and "\nversion: 1\n" in f"\n{block}":
            (tmp_path / "backup.yaml").write_text(block)
            holdfast(BACKUP_RECIPIENT=recipient)("validate", status=0)
