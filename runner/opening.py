"""The story of `open`: a snapshot in a scratch place, a prompt there, and nothing left of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime

from runner.errors import StepFailed
from runner.execute.call import Call
from runner.execute.opening import Looking, look_into
from runner.execute.session import Session
from runner.prepare import Choosing, wanted_recovery
from runner.report.outcome import Outcome, stamp
from runner.secret import SCRUBBER


def open_snapshot(
    call: Call, source: str, *, choosing: Choosing, looking: Looking, quiet: bool = False
) -> Outcome:
    """Let somebody look into one source of a snapshot. What they type changes nothing live."""
    session = Session.open(call)
    session.settle()
    wanted = wanted_recovery(session, "open", [source], choosing)
    (choice,) = wanted.choices

    def say(address: str, taken_at: datetime, doubts: Sequence[str]) -> None:
        lines = [f"{source} of {choice.snapshot.id}, as of {stamp(taken_at)}: {address}"]
        lines += [f"Not proven equal to the snapshot: {one}" for one in doubts[:5]]
        lines += wanted.doubts
        lines += ["It is a copy: nothing live changes, and it is gone when you leave."]
        if not quiet:
            sys.stderr.write("".join(f"{SCRUBBER.clean(line)}\n" for line in lines))
            sys.stderr.flush()

    looked = look_into(session, choice, wanted.profile, looking, say)
    data = {
        "source": source,
        "snapshot": choice.snapshot.id,
        "taken_at": stamp(looked.taken_at),
        "address": looked.address,
        "differences": list(looked.doubts),
        "status": looked.status,
        "output": looked.printed.decode(errors="replace"),
    }
    if looked.status == 0 or (looking.text is None and sys.stdin.isatty()):
        # A person saw what went wrong, and a shell's status is that of the last thing typed.
        return Outcome("open", data)
    error = StepFailed(f"What was typed at {source} ended with status {looked.status}.")
    return Outcome("open", data, error.exit_code, error.as_json())
