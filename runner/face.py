"""The command line's manners: common flags, confirmation, output, exit codes.

Invoke derives a task's flags from its signature; `command` adds those that every command has.
"""

from __future__ import annotations

import inspect
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runner import journeys
from runner.errors import (
    HoldfastError,
    Interrupted,
    PersonNeeded,
    StepFailed,
    UsageError,
    lacking,
)
from runner.execute.call import Call
from runner.light import Executor, Exit, Task
from runner.report.outcome import Outcome
from runner.secret import SCRUBBER
from runner.streams import open_streams, put, speak_utf8

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


@dataclass(frozen=True)
class Flags:
    """The common flags, read."""

    call: Call
    json: bool
    quiet: bool
    show_plan: bool  # and do nothing
    plan_file: Path | None  # where to save the plan


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


def duration(text: str) -> float:
    """Seconds of a duration given as a flag."""
    from runner.spec.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


def percent(text: str) -> float:
    """The fraction that a flag such as `10%` says."""
    try:
        value = float(text.removesuffix("%")) / 100
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise UsageError(f"`{text}` is no part of a whole.", remedy="Write 10%, or 100% for all.")
    return value


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
        _refuse_odd_calls(context, values)
        flags = _flags(context, values, needs_spec=needs_spec)
        mine = {name: _split(values[name], own[name].default) for name in own}
        result = body(flags, **mine)
        outcome = _outcome(result, flags)
    except (HoldfastError, OSError, KeyboardInterrupt) as error:
        outcome = _failed(error)
    except Exception as error:
        if os.environ.get("HOLDFAST_DEBUG"):
            raise
        outcome = _failed(error)
    try:
        _write_junit(outcome, body.__name__, values)
        code = _print(outcome, wants_json=wants_json, quiet=quiet and outcome.command != "error")
        if flags is not None and body.__name__ in TOLD:
            _tell(outcome, body.__name__, flags, result)
    except KeyboardInterrupt:
        why = "Error: Interrupted while the outcome was told: `holdfast history` has it."
        raise Exit(why, code=Interrupted.exit_code) from None
    raise Exit(code=code)


def _tell(
    outcome: Outcome, command: str, flags: Flags, result: Outcome | journeys.Prepared | None
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

    for line in tell(spec, command, outcome):
        sys.stderr.write(f"{SCRUBBER.clean(line)}\n")


def _write_junit(outcome: Outcome, command: str, values: Mapping[str, Any]) -> None:
    """For a CI server. That it cannot be written changes nothing of what is to be told."""
    if not values.get("junit") or outcome.command == "plan":
        return
    from runner.report.junit import write_junit

    try:
        write_junit(outcome, command, Path(values["junit"]).expanduser().absolute())
    except OSError as error:
        sys.stderr.write(f"The JUnit file cannot be written: {error}\n")


def refuse(error: BaseException, arguments: Sequence[str]) -> Exit:
    """Tell why a command line is not carried out at all; return what ends it."""
    open_streams()
    return Exit(code=_print(_failed(error), wants_json="--json" in arguments, quiet=False))


def _failed(error: BaseException) -> Outcome:
    """What is told of an error: one that can happen to anybody, or one that nobody foresaw, which
    is a bug, or a machine that is too small.
    """
    if isinstance(error, HoldfastError):
        return Outcome("error", {}, error.exit_code, error.as_json())
    if isinstance(error, KeyboardInterrupt):
        return _failed(Interrupted("Interrupted before anything was begun."))
    if isinstance(error, OSError):
        refused = f"The system refused: {error}."
        return _failed(StepFailed(refused, remedy="See permissions and free space."))
    lack = lacking(error)
    if lack is not None:
        return _failed(lack)
    message = (
        f"Unexpected {type(error).__name__}: {error} This is a bug in Holdfast: "
        "HOLDFAST_DEBUG=1 shows where; please report it."
    )
    return Outcome("error", {}, 1, {"kind": "bug", "message": message})


def _outcome(result: Outcome | journeys.Prepared, flags: Flags) -> Outcome:
    if isinstance(result, Outcome):
        return result
    if flags.show_plan:
        from runner.report.explain import planned

        confirm = None if result.danger is None else result.danger.name
        again = flags.call.again
        return planned(
            result.session.spec, result.plan, flags.plan_file, confirm=confirm, again=again
        )
    return journeys.perform(_confirmed(result, flags))


def _confirmed(prepared: journeys.Prepared, flags: Flags) -> journeys.Prepared:
    """Ask for the name on a terminal; elsewhere only `--confirm` counts."""
    session, danger = prepared.session, prepared.danger
    asks = danger is not None and session.call.confirm is None
    if danger is None or not asks or flags.json or not sys.stdin.isatty():
        return prepared
    sys.stderr.write("\n".join(danger.lines) + f"\nType {danger.name} to go on: ")
    sys.stderr.flush()
    typed = sys.stdin.readline().strip()
    if typed != danger.name:
        raise PersonNeeded("Nothing was done: the name did not match.")
    session.call = replace(session.call, confirm=typed)
    return prepared


def _refuse_odd_calls(context: Any, values: Mapping[str, Any]) -> None:
    """Mistakes that Invoke would swallow silently."""
    _refuse_missing_values(values)
    for name, value in values.items():
        texts = value if isinstance(value, list) else [value]
        for text in texts:
            if isinstance(text, str) and text.startswith("-"):
                flag = name.strip("_").replace("_", "-")
                raise UsageError(f"--{flag} has no value: `{text}` follows it.")
    if getattr(context.config, "_runtime_path", None):
        raise UsageError("-f is Invoke's own flag.", remedy="Write --file for the spec.")
    if context.config.run.dry and "dry_run" not in values:
        raise UsageError("This command has no dry run.", remedy="Leave out --dry and -R.")
    if context.remainder:
        raise UsageError(f"`--` hides what follows it: {context.remainder}.", remedy="Remove it.")
    if _asked_tasks() > 1:
        raise UsageError("One command a call.", remedy="Join several calls by `&&`.")


def _refuse_missing_values(values: Mapping[str, Any]) -> None:
    """A list's flag without a value is none at all to Invoke, and so is an empty value."""
    flags = {
        f"--{name.strip('_').replace('_', '-')}"
        for name, value in values.items()
        if not isinstance(value, bool)
    }
    words = sys.argv[1:]
    for word, follower in zip(words, [*words[1:], ""], strict=True):
        flag, given, value = word.partition("=")
        if flag in flags and not (value if given else follower).strip(", "):
            raise UsageError(f"{flag} has no value.")
        if flag in flags and not given and follower.startswith("-"):
            raise UsageError(f"{flag} has no value: `{follower}` follows it.")


def _asked_tasks() -> int:
    """How many tasks this call names. Invoke says it nowhere, and would drop all but the first."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code is Executor.execute.__code__:
            return len(frame.f_locals["tasks"])
        frame = frame.f_back
    return 1


def _flags(context: Any, values: Mapping[str, Any], *, needs_spec: bool) -> Flags:
    from runner.report.reporters import reporter

    quiet, wants_json = bool(values["quiet"]), bool(values["json"])
    # Invoke takes --dry and -R for itself; whoever types them means this.
    dry = bool(values.get("dry_run")) or bool(context.config.run.dry)
    if values.get("out") and "dry_run" in values and not dry:
        raise UsageError("--out goes with --dry-run.")
    plan_file = values.get("out") if "dry_run" in values else None
    identity = values.get("identity")
    wait = values.get("wait")
    call = Call(
        file=_spec_file(values["file"], needs_spec=needs_spec and not _by_address(values)),
        profile=values["profile"] or os.environ.get("HOLDFAST_PROFILE") or None,
        identity=_place(identity) if identity else None,
        wait=duration(wait) if wait else 0.0,
        confirm=values.get("confirm") or None,
        again=_again(values),
        listeners=() if quiet or wants_json else (reporter(),),
    )
    return Flags(call, wants_json, quiet, dry, _place(plan_file) if plan_file else None)


def _again(values: Mapping[str, Any]) -> str:
    """The flags of this line that the next one to type needs, too."""
    file = values["file"] or os.environ.get("HOLDFAST_FILE")
    profile = values["profile"] or os.environ.get("HOLDFAST_PROFILE")
    words = ["--file", str(_place(file))] if file else []
    words += ["--profile", profile] if profile else []
    # A recovery goes on by the same command, and a plan is applied with the same key.
    if ("done" in values or values.get("out")) and values.get("identity"):
        words += ["--identity", str(_place(values["identity"]))]
    return shlex.join(words)


def _place(typed: str) -> Path:
    """An absolute path without `..`, as the next line to type shows it; links stay."""
    return Path(os.path.abspath(Path(typed).expanduser()))  # noqa: PTH100


def _by_address(values: Mapping[str, Any]) -> bool:
    """Whether a target is given by its address, so that the spec comes from there."""
    from runner.target.address import is_address

    return is_address(str(values.get("from_") or ""))


def _spec_file(given: str, *, needs_spec: bool) -> Path:
    from runner.spec.load import find_spec

    named = given or os.environ.get("HOLDFAST_FILE")
    try:
        if named:
            return Path(named).expanduser().absolute()
        return find_spec(Path.cwd()) if needs_spec else Path.cwd() / "backup.yaml"
    except FileNotFoundError:
        remedy = "Change to one that does, or give --file with a whole path."
        raise UsageError("The working folder does not exist any more.", remedy=remedy) from None


def _split(value: Any, default: Any) -> Any:
    if not isinstance(default, tuple):
        return value
    return tuple(piece for text in value for piece in text.split(",") if piece)


def _print(outcome: Outcome, *, wants_json: bool, quiet: bool) -> int:
    """Print an outcome; return the exit code, which is a failure's where stdout did not take it."""
    found, mended = _texts(outcome, wants_json=wants_json, quiet=quiet)
    if wants_json:
        speak_utf8(sys.stdout)
    unread = put(sys.stdout, found) if found else None
    if unread is not None:
        mended += f"Error: Standard output takes nothing: {unread.strerror}.\n"
    put(sys.stderr, mended)
    return outcome.exit_code or (0 if unread is None else StepFailed.exit_code)


def _texts(outcome: Outcome, *, wants_json: bool, quiet: bool) -> tuple[str, str]:
    """What stdout and what stderr are to say."""
    if wants_json:
        return SCRUBBER.clean(
            json.dumps(outcome.as_json(), indent=1, ensure_ascii=False)
        ) + "\n", ""
    if quiet and "line" in outcome.data:
        return outcome.data["line"] + "\n", ""
    if quiet and outcome.exit_code == 0:
        return "", ""
    from runner.report.text import printed

    found, mended = printed(outcome)
    return "".join(f"{line}\n" for line in found), "".join(f"{line}\n" for line in mended)
