"""The programs that people look into restored content with."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from runner.errors import PersonNeeded
from runner.process import SHELL
from runner.source import Prompt


def installed(*names: str, package: str) -> str:
    """The path of the first of these programs that there is. Raises PersonNeeded."""
    for name in names:
        path = shutil.which(name)
        if path is not None:
            return path
    raise PersonNeeded(
        f"{names[0]} is not installed, so there is nothing to look into it with.",
        remedy=f"apt-get install {package}",
    )


def shell(folder: str, text: str | None) -> Prompt:
    """A shell in a folder: the person's own on a terminal, else bash, which stops at an error."""
    if text is not None:
        return Prompt((*SHELL, "--", text), folder=Path(folder), stdin=b"")
    if sys.stdin.isatty():
        return Prompt((os.environ.get("SHELL") or "bash",), folder=Path(folder))
    return Prompt((*SHELL[:-1], "-s"), folder=Path(folder))
