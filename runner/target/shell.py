"""Words of a shell line for what a spec declares: where a secret is, never what it is."""

from __future__ import annotations

import shlex
from pathlib import Path

from runner.secret import Secret


def secret_words(secret: Secret) -> str:
    """What stands for the secret's value in a shell line, quoted."""
    kind, _, place = secret.reference.partition(":")
    if kind == "env":
        return f'"${{{place}}}"'
    if kind == "file":
        return f'"$(cat -- {shlex.quote(str(secret.file))})"'
    if kind == "command":
        return f'"$({place})"'
    return f'"$(cat -- "$CREDENTIALS_DIRECTORY"/{shlex.quote(place)})"'


def file_words(before: str, file: Path | None, after: str = "") -> str:
    """A file, quoted, between two words that belong to it; nothing where there is none."""
    return "" if file is None else f"{before}{shlex.quote(str(file))}{after}"
