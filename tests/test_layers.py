"""Every module has its place in the order, imports only what stands before it, and stays small."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tools import ROOT

# Each may import what stands on its own line or on a line above.
ORDER = [
    ["runner", "runner.lazily"],  # the version, and what is imported when it is first used
    ["runner.errors", "runner.streams"],
    ["runner.secret"],
    ["runner.durable", "runner.owner", "runner.swap", "runner.daemon"],
    ["runner.process", "runner.foreground", "runner.trust"],
    ["runner.spec"],
    ["runner.registry"],
    ["runner.plan.model"],
    ["runner.target"],
    ["runner.store"],
    ["runner.source"],
    ["runner.prove"],
    ["runner.plan"],
    ["runner.execute"],
    ["runner.report"],
    ["runner.prepare"],
    ["runner.bootstrap", "runner.new_host"],
    ["runner.saved", "runner.safety", "runner.opening", "runner.drilling"],
    ["runner.journeys"],
    ["runner.serve"],
    ["runner.light"],
    ["runner.typed", "runner.told"],
    ["runner.face"],
    ["runner.commands"],
    ["runner.program"],
    ["runner.__main__"],
]

# It names the protocols it opens, for the type checker alone; what it imports is found by name.
TYPES_ONLY = {("runner.registry", "runner.source"), ("runner.registry", "runner.target")}

MOST_LINES = 400
MOST_FUNCTION_LINES = 60


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted((ROOT / "runner").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def layer(module: str) -> int | None:
    """The place of a module in the order: that of the longest name it stands under."""
    places = {
        name: place
        for place, names in enumerate(ORDER)
        for name in names
        if module == name or (name != "runner" and module.startswith(f"{name}."))
    }
    return places[max(places, key=len)] if places else None


def imports(module: str) -> Iterator[tuple[int, str]]:
    """The line and the name of each module of this package that a module imports."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                yield node.lineno, whole if whole in MODULES else base


@pytest.mark.parametrize("module", MODULES)
def test_has_a_place_in_the_order(module: str) -> None:
    assert layer(module) is not None, f"{module} stands nowhere in the order of layers"


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_what_stands_before_it(module: str) -> None:
    own = layer(module)
    upwards = [
        f"{MODULES[module].relative_to(ROOT)}:{line} imports {other}"
        for line, other in imports(module)
        if other.split(".")[0] == "runner" and (module, other) not in TYPES_ONLY
        if own is not None and (layer(other) or 0) > own
    ]
    assert upwards == []


@pytest.mark.parametrize("module", MODULES)
def test_stays_small(module: str) -> None:
    text = MODULES[module].read_text()
    lines = text.count("\n")
    long = [f"the module has {lines} lines"] if lines > MOST_LINES else []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if size > MOST_FUNCTION_LINES:
                long.append(f"line {node.lineno}: {node.name} has {size} lines")
    assert long == []


def test_sees_an_import_upwards_in_every_form() -> None:
    found = {other for _, other in imports("runner.registry")}
    assert {"runner.errors", "runner.spec.model", "runner.source"} <= found
    assert layer("runner.plan.model") != layer("runner.plan")
    assert layer("runner.unheard_of") is None
