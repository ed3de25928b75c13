"""The program run inside the test's own process: the same code, without the second a start takes.

What depends on being a process (signals, terminals, pipes, start-up) is tested with
`tests.tools.Program`.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runner.__main__ import main
from tests.tools import Answer, clean_environment


@dataclass(frozen=True)
class Inside:
    """Runs commands in one folder, with a clean environment and no standard input."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)  # added to the clean one

    def __call__(self, *arguments: str | Path, status: int | None = None) -> Answer:
        """Run a command to its end. With `status`, fail the test unless it ends with that."""
        words = [str(one) for one in arguments]
        stdout, stderr = io.StringIO(), io.StringIO()
        code: Any = 0
        with (
            _surroundings(self.folder, clean_environment(self.folder, **self.environment)),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
        ):
            sys.argv = ["holdfast", *words]
            sys.stdin = io.StringIO()
            try:
                main()
            except SystemExit as ended:
                code = ended.code or 0
        answer = Answer(("holdfast", *words), int(code), stdout.getvalue(), stderr.getvalue())
        if status is not None and answer.status != status:
            pytest.fail(f"expected status {status}\n{answer}", pytrace=False)
        return answer

    def json(self, *arguments: str | Path, status: int = 0) -> Any:
        """Run a command with `--json`, expect `status`, and return the object it prints."""
        return self(*arguments, "--json", status=status).json


@contextlib.contextmanager
def _surroundings(folder: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """A working folder, an environment, arguments and standard input that are put back."""
    before = (Path.cwd(), dict(os.environ), sys.argv, sys.stdin)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    try:
        yield
    finally:
        os.chdir(before[0])
        os.environ.clear()
        os.environ.update(before[1])
        sys.argv, sys.stdin = before[2], before[3]
