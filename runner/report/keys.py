"""Keygen: a new age identity in a file of its own, and how to keep it."""

from __future__ import annotations

from pathlib import Path

from runner.durable import make_folder, write_bytes
from runner.errors import UsageError
from runner.report.outcome import Outcome
from runner.store.age import keygen

DECLARE = (
    "Add the recipient to encryption.recipients: it is public. A new snapshot can be opened by "
    "each of the recipients, an old one only by those of its own time, until you run rekey."
)
KEEP = (
    "Keep the key outside of everything that is backed up, twice: a password manager, a drive in a "
    "drawer. Without it nobody can open what was written for it."
)


def make_key(file: Path) -> Outcome:
    """Write a new identity, readable by this user alone. Raises UsageError where a file exists."""
    identity, recipient = keygen()
    try:
        make_folder(file.parent)
        write_bytes(file, identity.encode(), exclusive=True)
    except FileExistsError:
        raise UsageError(
            f"{file} exists, and is not replaced: what it opens could never be opened again.",
            remedy="Give another --out.",
        ) from None
    except OSError as error:
        raise UsageError(f"The key cannot be written to {file}: {error.strerror}.") from error
    notes = (
        f"Key: {file}",
        f"Recipient: {recipient}",
        DECLARE,
        KEEP,
        f"Next: holdfast backup && holdfast drill --identity {file}",
    )
    return Outcome("keygen", {"file": str(file), "recipient": recipient}, notes=notes)
