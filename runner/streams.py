"""Standard streams: there even where the caller closed them, quiet where nobody takes them."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import TextIO


def open_streams() -> None:
    """Lead those that the caller closed nowhere; show what the terminal's encoding lacks.

    The next file that is opened would else get the number of one, and take in what programs that
    are started print.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            _lead_nowhere(number)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def speak_utf8(stream: TextIO) -> None:
    """As JSON is written, whatever the terminal's encoding."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(encoding="utf-8")


def put(stream: TextIO, text: str) -> OSError | None:
    """Write a text out; return why the stream does not take it, if it does not.

    A reader who has seen enough is no reason. A stream that failed takes whatever comes: Python
    would complain when it flushes at its end.
    """
    try:
        # A file name may hold bytes that are no text; they are shown, not raised.
        stream.write(text.encode("utf-8", "backslashreplace").decode())
        stream.flush()
    except OSError as error:
        _lead_nowhere(stream.fileno())
        return None if isinstance(error, BrokenPipeError) else error
    return None


def _lead_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, number)
    os.set_inheritable(number, True)  # dup2 does not where both are one
    if nowhere != number:
        os.close(nowhere)
