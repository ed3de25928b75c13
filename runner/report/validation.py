"""`validate`: what is wrong with the spec, and what it can never do."""

from __future__ import annotations

from runner.errors import SpecError
from runner.execute.call import Call
from runner.report.foresight import foreseen
from runner.report.outcome import Outcome
from runner.report.target_words import counted
from runner.spec.check import warnings
from runner.spec.load import load_spec


def validated(call: Call, *, strict: bool = False) -> Outcome:
    """The spec alone: every error, what can never meet its objectives, and what this machine
    saw coming when it looked last.
    """
    try:
        spec = load_spec(call.file, call.profile)
    except SpecError as error:
        problems = [one.as_json() for one in error.problems] or [error.as_json()]
        return Outcome("validate", {"errors": problems, "warnings": []}, 3, error.as_json())
    found = [one.as_json() for one in (*warnings(spec), *foreseen(spec))]
    code = SpecError.exit_code if strict and found else 0
    message = f"{counted(len(found), 'warning')}, and --strict"
    error_json = {"kind": "spec", "message": message}
    return Outcome(
        "validate", {"errors": [], "warnings": found}, code, error_json if code else None
    )
