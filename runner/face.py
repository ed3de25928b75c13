"""The command line's manners: common flags, confirmation, exit codes.

Invoke derives a task's flags from its signature; `command` adds those that every command has.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from runner import journeys
from runner.errors import HoldfastError, Interrupted, PersonNeeded, SpecError, UsageError
from runner.light import Exit, Task
from runner.report.outcome import Outcome
from runner.secret import SCRUBBER
from runner.streams import open_streams
from runner.told import outcome_of, print_outcome, write_junit_file
from runner.typed import Flags, names_an_address, read_flags, refuse_odd_calls, split

ACTS, DECRYPTS, ASKS, TESTS = 1, 2, 4, 8
TOLD = ("backup", "verify", "prune", "drill", "rekey")  # the spec's `notify` names them

COMMON = {
    "file": ("", "Spec to use (HOLDFAST_FILE). Default: backup.yaml here or in a folder above."),
    "profile": ("", "Profile of the spec to apply (HOLDFAST_PROFILE)."),
    "json": (False, "Print one JSON object on stdout."),
    "quiet": (False, "Print errors only."),
}
ACTING = {
    "dry_run": (False, "Print the plan; do nothing."),
    "out": ("", "With --dry-run: save the plan in this file, for `apply`."),
    "wait": ("", "Wait this long for another run to end: 10m."),
}
DECRYPTING = {"identity": ("", "File of the age identity that opens what is encrypted.")}
TESTING = {"junit": ("", "Also write the outcome to this file, as JUnit XML.")}
ASKING = {"confirm": ("", "Name of what will be destroyed or replaced: your yes.")}


def command(
    takes: int = 0,
    *,
    texts: Mapping[str, str] | None = None,
    spec: bool = True,
) -> Callable[[Callable[..., Outcome | journeys.Prepared]], Task[Any]]:
    """Turn a function of Flags and its own keywords into an Invoke task."""
    common = dict(COMMON)
    for bit, more in ((ACTS, ACTING), (DECRYPTS, DECRYPTING), (ASKS, ASKING), (TESTS, TESTING)):
        common |= more if takes & bit else {}

    def decorate(body: Callable[..., Outcome | journeys.Prepared]) -> Task[Any]:
        own = {
            name: parameter
            for name, parameter in inspect.signature(body).parameters.items()
            if name != "flags"
        }

        def task(context: Any, **values: Any) -> None:
            _carry_out(body, context, values, own, needs_spec=spec)

        parameters = [inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
        defaults = {name: parameter.default for name, parameter in own.items()}
        defaults |= {name: default for name, (default, _) in common.items() if name not in own}
        lists = [name for name, default in defaults.items() if isinstance(default, tuple)]
        for name, default in defaults.items():
            parameters.append(
                inspect.Parameter(
                    name,
                    inspect.Parameter.POSITIONAL_OR_KEYWORD,
                    default=[] if name in lists else default,
                )
            )
        task.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        task.__name__ = body.__name__
        task.__doc__ = body.__doc__
        every = {name: text for name, (_, text) in common.items()} | dict(texts or {})
        return Task(
            task,
            name=body.__name__.replace("_", "-"),
            positional=[],
            iterable=lists,
            auto_shortflags=False,
            help={name.strip("_").replace("_", "-"): text for name, text in every.items()},
        )

    return decorate


def _carry_out(
    body: Callable[..., Outcome | journeys.Prepared],
    context: Any,
    values: dict[str, Any],
    own: Mapping[str, inspect.Parameter],
    *,
    needs_spec: bool,
) -> None:
    """Run one command and leave with its exit code."""
    open_streams()
    wants_json, quiet = bool(values.get("json")), bool(values.get("quiet"))
    flags: Flags | None = None
    result: Outcome | journeys.Prepared | None = None
    try:
        refuse_odd_calls(context, values)
        flags = read_flags(context, values, needs_spec=needs_spec)
        mine = {name: split(values[name], own[name].default) for name in own}
        result = body(flags, **mine)
        outcome = _outcome(result, flags)
    except (HoldfastError, OSError, KeyboardInterrupt) as error:
        _name_the_folder(error, values)
        outcome = outcome_of(error)
    except Exception as error:
        if os.environ.get("HOLDFAST_DEBUG"):
            raise
        outcome = outcome_of(error)
    try:
        write_junit_file(outcome, body.__name__, values)
        code = print_outcome(
            outcome, wants_json=wants_json, quiet=quiet and outcome.command != "error"
        )
        if flags is not None and body.__name__ in TOLD:
            _tell(outcome, body.__name__, flags, result, tries_again=bool(values.get("due")))
    except KeyboardInterrupt:
        why = "Error: Interrupted while the outcome was told: `holdfast history` has it."
        raise Exit(why, code=Interrupted.exit_code) from None
    raise Exit(code=code)


def _name_the_folder(error: BaseException, values: Mapping[str, Any]) -> None:
    """A folder named as a target is would be a path with a slash: `--from ./usb`."""
    named = str(values.get("from_") or "") if "project" in values else ""
    if not (named and isinstance(error, UsageError | SpecError)) or names_an_address(values):
        return
    if Path(named).is_dir():
        error.remedy = f"{error.remedy} For the folder here, write --from ./{named}".strip()


def _tell(
    outcome: Outcome,
    command: str,
    flags: Flags,
    result: Outcome | journeys.Prepared | None,
    *,
    tries_again: bool,
) -> None:
    """Tell those who are to know how it ended."""
    if flags.show_plan or (outcome.error or {}).get("kind") == UsageError.kind:
        return
    from runner.spec.load import load_spec

    try:
        spec = (
            result.session.spec
            if not (result is None or isinstance(result, Outcome))
            else load_spec(flags.call.file, flags.call.profile, unset="keep")
        )
    except HoldfastError:
        return  # what is wrong with the spec was told
    if not spec.notices:
        return
    from runner.report.notices import tell

    for line in tell(spec, command, outcome, tries_again=tries_again):
        sys.stderr.write(f"{SCRUBBER.clean(line)}\n")


def refuse(error: BaseException, arguments: Sequence[str]) -> Exit:
    """Tell why a command line is not carried out at all; return what ends it."""
    open_streams()
    return Exit(
        code=print_outcome(outcome_of(error), wants_json="--json" in arguments, quiet=False)
    )


def _outcome(result: Outcome | journeys.Prepared, flags: Flags) -> Outcome:
    if isinstance(result, Outcome):
        return result
    if flags.show_plan:
        from runner.report.explain import planned

        confirm = None if result.danger is None else result.danger.name
        spec, again = result.session.spec, flags.call.again
        return planned(spec, result.plan, flags.plan_file, confirm=confirm, again=again)
    return journeys.perform(_confirmed(result, flags))


def _confirmed(prepared: journeys.Prepared, flags: Flags) -> journeys.Prepared:
    """Ask for the name on a terminal; elsewhere only `--confirm` counts."""
    session, danger = prepared.session, prepared.danger
    asks = danger is not None and session.call.confirm is None
    if danger is None or not asks or flags.json or not sys.stdin.isatty():
        return prepared
    sys.stderr.write("\n".join(danger.lines) + f"\nType {danger.name} to go on: ")
    sys.stderr.flush()
    line = ""
    try:
        line = sys.stdin.readline()
    finally:
        # After Ctrl-D or Ctrl-C what follows would stand beside the question.
        sys.stderr.write("" if line.endswith("\n") else "\n")
    if line.strip() != danger.name:
        raise PersonNeeded("The name did not match, and nothing was changed.")
    session.call = replace(session.call, confirm=danger.name)
    return prepared
