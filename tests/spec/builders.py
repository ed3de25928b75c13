"""Specs for tests, written as a user writes them."""

from __future__ import annotations

from pathlib import Path

from runner.errors import SpecError
from runner.spec.load import load_spec
from runner.spec.marks import Problem

EXAMPLES = Path(__file__).parent / "examples"

SMALL = """\
version: 1
project: quaybot
sources:
  db: {type: sqlite, path: data/quaybot.db}
  config: {type: files, paths: [config]}
targets:
  disk: {type: local, path: backups}
"""


def write_spec(folder: Path, text: str = SMALL) -> Path:
    """A spec's file in a folder."""
    file = folder / "backup.yaml"
    file.write_text(text)
    return file


def problems_of(
    folder: Path, text: str, profile: str | None = None, **environment: str
) -> tuple[Problem, ...]:
    """What is wrong with a spec of that text; nothing if it loads."""
    try:
        load_spec(write_spec(folder, text), profile, environment=environment)
    except SpecError as error:
        problems: tuple[Problem, ...] = error.problems
        return problems
    return ()


def told(problems: tuple[Problem, ...]) -> dict[str, str]:
    """The messages by path."""
    return {one.path: one.message for one in problems}
