"""Runs a recovery that is killed, with SIGKILL, after each of its steps in turn, and resumed.

`killed_after_each.py REPORT FLAG…` begins `dr-restore FLAG…`; a life ends once a step is done that
no life ended with, just before that is written down; after it where only a person could tell how
far the step got. REPORT gets the steps that lives ended with, and what the last life printed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import psycopg  # noqa: F401 - each life has them at once
import redis  # noqa: F401

from runner import journeys  # noqa: F401
from runner.__main__ import main
from runner.execute.actions import command, person, probe, recovery, service  # noqa: F401
from runner.execute.journal import Journal
from runner.source import files, git, postgres, sqlite  # noqa: F401

MOST_LIVES = 100
real = Journal.append


def live(arguments: list[str], survived: list[str], output: Path) -> int:
    """One life: returns how its process ended, as `waitpid` does."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]

    def mortal(journal: Journal, event: str, **values: object) -> None:
        step = str(values.get("step"))
        fatal = event == "ended" and values["status"] == "done" and step not in survived
        if fatal and _is_command(journal, step):
            real(journal, event, **values)
        if fatal:
            output.write_text(f"{journal._folder.name} {step}")
            os.kill(os.getpid(), signal.SIGKILL)
        real(journal, event, **values)

    Journal.append = mortal  # type: ignore[method-assign,assignment]
    sys.argv = ["holdfast", *arguments]
    sys.stdout = output.open("w")
    main()
    raise SystemExit


def _is_command(journal: Journal, step: str) -> bool:
    plan = json.loads((journal._folder / "plan.json").read_text())
    return any(
        one["id"] == step and one["action"].split(".")[0] in ("command", "service")
        for one in plan["steps"]
    )


def all_lives(report: Path, flags: list[str]) -> None:
    """Live until nothing is left to be killed after."""
    survived: list[str] = []
    arguments = ["dr-restore", *flags]
    for _ in range(MOST_LIVES):
        status = live(arguments, survived, report)
        if not os.WIFSIGNALED(status):
            break
        run, step = report.read_text().split()
        survived.append(step)
        arguments = ["dr-restore", "--resume", run, *flags]
    said = report.read_text()
    report.write_text(json.dumps({"killed": survived, "status": status, "said": said}))


all_lives(Path(sys.argv[1]), sys.argv[2:])
