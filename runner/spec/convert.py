"""A completed, valid document becomes the models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from runner.spec.marks import Place, Problem
from runner.spec.model import (
    DEFAULT_POLICY,
    Encryption,
    Keep,
    Notice,
    Notification,
    Objective,
    Options,
    Policy,
    Probe,
    RecoveryStep,
    Service,
    Signing,
    SourceSpec,
    TargetSpec,
)
from runner.spec.references import ACTIONS, QUESTIONS

# What needs least comes first: databases may need configuration, caches may need databases.
_WAVES = (("git",), ("files",), ("sqlite", "postgres"), ("redis",))
_LONGEST_NAME = 63

Waiting = Mapping[Place, Problem]  # the values whose variables are not set


def resolve(folder: Path, path: str) -> Path:
    """An absolute path; `~` is the home folder, and relative ones start at the spec's folder."""
    try:
        return folder / Path(path).expanduser()
    except RuntimeError:  # an unknown home, which was told as a problem already
        return folder / path


def to_sources(values: Mapping[str, Any], folder: Path, waiting: Waiting) -> dict[str, SourceSpec]:
    """The sources, in the order written."""
    return {
        name: SourceSpec(name, source["type"], _options(source, ("sources", name), waiting), folder)
        for name, source in values["sources"].items()
    }


def to_targets(values: Mapping[str, Any], folder: Path, waiting: Waiting) -> dict[str, TargetSpec]:
    """The targets, in the order written."""
    return {
        name: TargetSpec(
            name,
            target["type"],
            _options(target, ("targets", name), waiting),
            folder,
            target.get("keep"),
        )
        for name, target in values["targets"].items()
    }


def _options(item: Mapping[str, Any], place: Place, waiting: Waiting) -> Mapping[str, Any]:
    values = _without(item, "type", "keep")
    unset = {str(inner[2]): problem for inner, problem in waiting.items() if inner[:2] == place}
    return Options(values, unset) if unset else values


def to_policies(values: Mapping[str, Any]) -> dict[str, Policy]:
    """The policies; one of everything, by hand, kept for ever, if none is declared."""
    declared = values["policies"] or {DEFAULT_POLICY: {}}
    return {
        name: Policy(
            name,
            sources=tuple(policy.get("sources", values["sources"])),
            targets=tuple(policy.get("targets", values["targets"])),
            keep=policy.get("keep", Keep()),
            **_without(policy, "sources", "targets", "keep"),
        )
        for name, policy in declared.items()
    }


def to_objectives(values: Mapping[str, Any]) -> dict[str, Objective]:
    """The objectives, by the name of what they are about."""
    return {name: Objective(name, **one) for name, one in values["objectives"].items()}


def to_services(values: Mapping[str, Any], folder: Path) -> dict[str, Service]:
    """The services, in the order written."""
    return {
        name: Service(
            name,
            stop=service.get("stop"),
            start=service.get("start"),
            sources=tuple(service["sources"]),
            working_dir=resolve(folder, service["working_dir"]),
            environment=service["env"],
            timeout=service.get("timeout"),
        )
        for name, service in values["services"].items()
    }


def to_recovery(values: Mapping[str, Any], folder: Path) -> tuple[RecoveryStep, ...]:
    """The recovery, in order. Default: git, files, databases, caches, each kind one wave."""
    declared = values.get("recovery")
    if declared is None:
        waves = _default_waves(values["sources"])
        return tuple(
            RecoveryStep(_restore_name(wave), restore=wave, working_dir=folder) for wave in waves
        )
    taken = {step["name"] for step in declared if "name" in step}
    steps = []
    for position, step in enumerate(declared, 1):
        name = step.get("name") or _unused(_step_name(step, position), taken)
        taken.add(name)
        steps.append(_recovery_step(name, step, folder))
    return tuple(steps)


def to_checks(values: Mapping[str, Any]) -> dict[str, tuple[Probe, ...]]:
    """The checks, by source."""
    return {
        source: tuple(to_probe(check, source=source) for check in checks)
        for source, checks in values["checks"].items()
    }


def to_probe(
    values: Mapping[str, Any],
    *,
    source: str | None = None,
    name: str = "",
    folder: Path | None = None,
) -> Probe:
    """One question. Paths are relative to `folder`."""
    kind = next(question for question in QUESTIONS if question in values)
    return Probe(
        kind,
        values[kind],
        source=values.get("source", source),
        name=values.get("name") or name or f"{kind} {values[kind]}"[:80],
        expect=values.get("expect"),
        at_least=values.get("at_least"),
        within=values["within"],
        options=_http_options(values, folder),
    )


def _http_options(values: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    options = {key: values[key] for key in ("body", "insecure") if values.get(key)}
    if "ca" in values and folder is not None:
        options["ca"] = str(resolve(folder, values["ca"]))
    return options


def to_encryption(values: Mapping[str, Any], waiting: Waiting) -> Encryption | None:
    """Who can read what is stored; None if everybody can."""
    declared = values.get("encryption")
    if declared is None:
        return None
    unset = [problem for place, problem in waiting.items() if place[0] == "encryption"]
    return Encryption(tuple(declared["recipients"]), declared.get("identity"), tuple(unset))


def to_signing(values: Mapping[str, Any], folder: Path) -> Signing | None:
    """Who signs snapshots, and whose signatures count; None if nothing is signed."""
    declared = values.get("signing")
    if declared is None:
        return None
    signers = declared.get("allowed_signers")
    return Signing(declared.get("key"), None if signers is None else resolve(folder, signers))


def to_notices(values: Mapping[str, Any]) -> tuple[Notice, ...]:
    """Whom to tell how commands ended."""
    return tuple(
        Notice(
            Notification(one.get("text", ""), one.get("run"), one.get("post")),
            _listed(one["of"]),
            one["when"],
            one["again"],
        )
        for one in values["notify"]
    )


def _recovery_step(name: str, step: Mapping[str, Any], folder: Path) -> RecoveryStep:
    probe = step.get("probe")
    return RecoveryStep(
        name,
        restore=_listed(step.get("restore", ())),
        run=step.get("run"),
        probe=to_probe(probe, name=name, folder=folder) if probe else None,
        manual=step.get("manual"),
        checklist=tuple(step.get("checklist", ())),
        notify=Notification(**step["notify"]) if "notify" in step else None,
        drill=step["drill"],
        environment=step["env"],
        working_dir=resolve(folder, step["working_dir"]),
        timeout=step.get("timeout"),
        expected=step.get("expected"),
        retries=step["retries"],
        when=step["when"],
    )


def _default_waves(sources: Mapping[str, Any]) -> list[tuple[str, ...]]:
    waves = [
        tuple(name for name, options in sources.items() if options["type"] in types)
        for types in _WAVES
    ]
    known = {name for wave in waves for name in wave}
    waves.append(tuple(name for name in sources if name not in known))
    return [wave for wave in waves if wave]


def _step_name(step: Mapping[str, Any], position: int) -> str:
    action = next(action for action in ACTIONS if action in step)
    return _restore_name(_listed(step[action])) if action == "restore" else f"{action}-{position}"


def _restore_name(sources: tuple[str, ...]) -> str:
    name = "-".join(("restore", *sources))
    if len(name) <= _LONGEST_NAME:
        return name
    others = f"-and-{len(sources) - 1}-more" if len(sources) > 1 else ""
    return f"restore-{sources[0]}"[: _LONGEST_NAME - len(others)] + others


def _unused(name: str, taken: Iterable[str]) -> str:
    count, free = 1, name
    while free in taken:
        count += 1
        free = f"{name[: _LONGEST_NAME - 4]}-{count}"
    return free


def _listed(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}
