"""Checks and probes as steps ask them, and the surroundings of the user's commands."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path, PurePath
from typing import Any

from runner.errors import StepFailed, UsageError
from runner.execute.context import Context
from runner.execute.mirror import env_file_values, mirrored, restored_place
from runner.prove.command import DRILL
from runner.prove.probes import Asked, ask
from runner.prove.restored import asked_of
from runner.registry import open_source
from runner.source import Source
from runner.spec.model import Probe, RecoveryStep, Spec


def entry_named(spec: Spec, name: str) -> RecoveryStep:
    """The entry of `recovery:` of that name."""
    for entry in spec.recovery:
        if entry.name == name:
            return entry
    raise UsageError(f"There is no recovery step `{name}` in the spec any more.")


def environment_of(context: Context, own: Mapping[str, str]) -> dict[str, str]:
    """What a command gets besides the minimal environment: env files, its own, a drill's places."""
    # Read again: a restore may just have brought the files back.
    values = env_file_values(context)
    values |= {name: str(value) for name, value in own.items()}
    if context.scratch is not None:
        values[DRILL] = str(context.scratch)
        for name in context.spec.sources:
            variable = f"HOLDFAST_{name.upper().replace('-', '_')}"
            # A server that is not restored yet has no address: its variable is not set.
            with suppress(StepFailed):
                values[variable] = context.source(name).address(restored_place(name, context))
    return values


def ask_checks(source: str, staged: Path | str | None, context: Context) -> list[dict[str, Any]]:
    """The answers to all checks of one source, asked of what was staged."""
    asked = asked_of(
        context.source(source),
        staged,
        environment_of(context, {}),
        isolated=context.scratch is not None,
    )
    checks = context.spec.checks[source]
    answers = [ask(probe, asked, interrupted=context.interrupted) for probe in checks]
    return [{"source": source, **asdict(answer)} for answer in answers]


def ask_probe(probe: Probe, entry: RecoveryStep, context: Context) -> dict[str, Any]:
    """The answer to a step's probe, asked of what is live, or of the drill's copy."""
    environment = environment_of(context, entry.environment)
    isolated = context.scratch is not None
    if probe.source is None:
        folder = mirrored(entry.working_dir, context)
        asked = Asked(path=folder, environment=environment, isolated=isolated)
    else:
        source = context.source(probe.source)
        where = _where(source, probe, context)
        asked = asked_of(source, where, environment, isolated=isolated)
        if asked.path is None:
            asked = replace(asked, path=mirrored(context.spec.folder, context))
    answer = ask(probe, asked, interrupted=context.interrupted)
    return {"source": probe.source, **asdict(answer)}


def live_folder(entry: RecoveryStep, spec: Spec) -> Path:
    """Where the probe of a step is asked of what is live."""
    probe = entry.probe
    assert probe is not None
    if probe.source is None:
        return entry.working_dir
    live = _live(open_source(spec.source(probe.source)), probe)
    if live is None:
        return spec.folder
    # A database is a file, and is asked in the folder that holds it.
    return live.parent if probe.kind == "run" and live.is_file() else live


def _where(source: Source, probe: Probe, context: Context) -> Path | str:
    """What `Source.ask` is told of: a drill's copy, or what is live."""
    if context.scratch is not None:
        place = restored_place(source.name, context)
        return Path(place) if source.paths else place
    return _live(source, probe) or ""


def _live(source: Source, probe: Probe) -> Path | None:
    """What a restored tree is called when it is live: the folder that its paths begin in, of the
    root that the probe names, else of the first. None for a server.
    """
    roots = {path: source.placed(path, ".") for path in source.paths}
    named = PurePath(probe.value)
    for path, stored in roots.items():
        if named.is_relative_to(stored) or stored.is_relative_to(named):
            return _begin(path, stored)
    return next((_begin(*one) for one in roots.items()), None)


def _begin(path: Path, stored: Path) -> Path:
    return (path, *path.parents)[len(stored.parts)]
