"""The command line as it was typed: its flags, read, and the mistakes Invoke would swallow."""

from __future__ import annotations

import inspect
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.errors import UsageError
from runner.execute.call import Call
from runner.light import Executor


@dataclass(frozen=True)
class Flags:
    """The common flags, read."""

    call: Call
    json: bool
    quiet: bool
    show_plan: bool  # and do nothing
    plan_file: Path | None  # where to save the plan


def read_flags(context: Any, values: Mapping[str, Any], *, needs_spec: bool) -> Flags:
    """The flags that every command has."""
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
        file=_spec_file(values["file"], needs_spec=needs_spec and not names_an_address(values)),
        profile=values["profile"] or os.environ.get("HOLDFAST_PROFILE") or None,
        identity=_place(identity) if identity else None,
        wait=duration(wait) if wait else 0.0,
        confirm=values.get("confirm") or None,
        again=_again(values),
        listeners=() if quiet or wants_json else (reporter(),),
    )
    return Flags(call, wants_json, quiet, dry, _place(plan_file) if plan_file else None)


def duration(text: str) -> float:
    """Seconds of a duration given as a flag."""
    from runner.spec.units import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(str(error)) from None


def refuse_odd_calls(context: Any, values: Mapping[str, Any]) -> None:
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


def names_an_address(values: Mapping[str, Any]) -> bool:
    """Whether a target is given by its address, so that the spec comes from there."""
    from runner.target.address import is_address

    return is_address(str(values.get("from_") or ""))


def split(value: Any, default: Any) -> Any:
    """What a flag says: of a list every piece, which commas may part too."""
    if not isinstance(default, tuple):
        return value
    return tuple(piece for text in value for piece in text.split(",") if piece)


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


def _spec_file(given: str, *, needs_spec: bool) -> Path:
    from runner.spec.load import SPEC_NAME, find_spec

    named = given or os.environ.get("HOLDFAST_FILE")
    try:
        if named:
            return Path(named).expanduser().absolute()
        return find_spec(Path.cwd()) if needs_spec else Path.cwd() / SPEC_NAME
    except FileNotFoundError:
        remedy = "Change to one that does, or give --file with a whole path."
        raise UsageError("The working folder does not exist any more.", remedy=remedy) from None
