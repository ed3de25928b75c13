"""Warnings: what is allowed in a spec, and yet can never do what it promises."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

from runner.spec.marks import Problem
from runner.spec.model import Keep, Policy, RecoveryStep, Spec
from runner.spec.overlap import Doubt, late_folders, misplaced_keys, overlaps, paths_of
from runner.spec.schedule import Schedule
from runner.spec.units import format_duration, parse_duration

SYSTEM = "system"

# How long a loss stays unnoticed where nothing is declared that would show it sooner.
USUAL_NOTICE = parse_duration("7d")

_SECRET = re.compile(
    r"(?i)(^|_)(API_?KEY|TOKEN|SECRET|PASS|[A-Z]*PASSWORD|PASSWD|PASSPHRASE)(_|$)|_PWD$|_AUTH$"
)
_NO_SECRET = re.compile(r"(?i)_(FILE|PATH|DIR|ID|NAME|URL|TTL)$")  # but where one is, or how long

_PERIODS = {"hourly": "1h", "daily": "1d", "weekly": "7d", "monthly": "30d", "yearly": "365d"}


def warnings(spec: Spec) -> tuple[Problem, ...]:
    """What a person should know, in the order of the file, each with its remedy.

    Looks at this machine only to learn where paths lead and which disks they are on.
    """
    found = [spec.marks.problem(place, message) for rule in _RULES for place, message in rule(spec)]
    return tuple(sorted(found, key=lambda one: (one.line, one.column)))


def _uncovered(spec: Spec) -> Iterator[Doubt]:
    for name in spec.sources:
        if not _covering(spec, name):
            yield ("sources", name), f"No policy backs up `{name}`. Add it to the sources of one."


def _without_objective(spec: Spec) -> Iterator[Doubt]:
    for name in spec.sources:
        objective = spec.objectives.get(name)
        if objective is None or (objective.rpo is None and objective.rto is None):
            message = (
                f"`{name}` has no objective, so nobody is told when it is too old or takes too "
                f"long. Declare one: objectives: {{{name}: {{rpo: 26h, rto: 2h}}}}."
            )
            yield ("sources", name), message


def _never_met(spec: Spec) -> Iterator[Doubt]:
    """Objectives that no schedule can keep."""
    for name in spec.sources:
        owner = next((one for one in (name, SYSTEM) if _rpo(spec, one) is not None), None)
        policies = _covering(spec, name)
        if owner is None or not policies:
            continue
        rpo = _rpo(spec, owner) or 0.0
        promised = f"`{name}` may lose at most {format_duration(rpo)}"
        ages = [(_longest_age(spec, policy), policy) for policy in policies if policy.schedule]
        if not ages:
            message = f"{promised}, but is backed up by hand only. Give a policy a schedule."
            yield ("objectives", owner, "rpo"), message
            continue
        age, best = min(ages, key=lambda one: one[0])
        if age > rpo:
            message = (
                f"{promised}, but this schedule lets its newest snapshot become "
                f"{format_duration(age)} old (longest interval and expected duration). "
                "Run it more often, or declare a longer rpo."
            )
            yield ("policies", best.name, "schedule"), message


def _undrilled(spec: Spec) -> Iterator[Doubt]:
    system = spec.objectives.get(SYSTEM)
    if system is not None and system.drill_every is not None:
        return
    for name, objective in spec.objectives.items():
        if objective.rto is not None and objective.drill_every is None:
            message = (
                "Nothing says how often a drill must show that this RTO holds. "
                "Add drill_every: 90d, here or for the system."
            )
            yield ("objectives", name, "rto"), message


def _slow_steps(spec: Spec) -> Iterator[Doubt]:
    """Recovery times that cannot be kept, or never be told, whatever is restored."""
    system = spec.objectives.get(SYSTEM)
    if system is None or system.rto is None:
        return
    steps = [step for step in spec.recovery if not step.restore and step.notify is None]
    own = [step for step in steps if step.when == "success"]
    least = sum(step.expected or 0.0 for step in own)
    if least > system.rto:
        message = (
            f"The recovery's own steps are expected to take {format_duration(least)}, without any "
            f"restore. The system cannot be back within {format_duration(system.rto)}."
        )
        yield ("objectives", SYSTEM, "rto"), message
    for place, step in enumerate(spec.recovery):
        if step in own and _is_left_out(step) and step.expected is None and step.timeout is None:
            message = (
                f"A drill leaves `{step.name}` out and cannot know its time, so it cannot tell "
                "whether the RTO holds. Add expected: 5m."
            )
            yield ("recovery", place), message


def _is_left_out(step: RecoveryStep) -> bool:
    """Whether a drill does not do it: a probe of what is live is never asked there."""
    live = step.probe is not None and step.probe.kind in ("http", "tcp") and step.drill == "same"
    return step.manual is not None or step.drill == "skip" or live


def _unencrypted(spec: Spec) -> Iterator[Doubt]:
    if spec.encryption is not None:
        return
    for name, target in spec.targets.items():
        if target.type != "local":
            message = (
                f"Snapshots leave this machine unencrypted for `{name}`. "
                "Declare encryption: {recipients: [age1…]}."
            )
            yield ("targets", name), message


def _blind(spec: Spec) -> Iterator[Doubt]:
    if spec.encryption is not None and spec.encryption.identity is None:
        message = (
            "Without an identity nothing can be read back: verification as readable or restored "
            "says COULD-NOT-VERIFY. Declare one on the host that verifies, or give --identity."
        )
        yield ("encryption",), message


def _too_few_targets(spec: Spec) -> Iterator[Doubt]:
    if len(spec.targets) < 2:
        message = (
            "There is one target only. Keep three copies, on two kinds of storage, one of them "
            "off this site (3-2-1): add a target elsewhere."
        )
        yield ("targets",), message
        return
    for name, policy in spec.policies.items():
        if len(policy.targets) < 2:
            message = f"`{name}` keeps its snapshots at one target only. Add another (3-2-1)."
            yield ("policies", name, "targets"), message
    if all(target.type == "local" for target in spec.targets.values()):
        devices = {_device(path) for one in spec.targets.values() for path in paths_of(one)}
        if len(devices) == 1:
            message = (
                "All targets are on one disk of this machine and are lost with it. "
                "Add a target on another disk, and one off this site (3-2-1)."
            )
            yield ("targets",), message


def _forgets_too_soon(spec: Spec) -> Iterator[Doubt]:
    """Retentions that end before anybody would notice a loss."""
    for policy in spec.policies.values():
        notice, why = _time_to_notice(spec, policy)
        for target in policy.targets:
            own = spec.targets[target].keep
            span = _span(own or policy.keep, _interval(spec, policy))
            if span is not None and span < notice:
                place = ("targets", target, "keep") if own else ("policies", policy.name, "keep")
                message = (
                    f"Snapshots are kept for about {format_duration(span)}, but a loss may stay "
                    f"unnoticed for {format_duration(notice)} ({why}): by then no good one is "
                    "left. Keep them longer."
                )
                yield place, message
                if not own:
                    break


def _locked_oddly(spec: Spec) -> Iterator[Doubt]:
    """Locks at a target that outlast what is kept there, or end before the next snapshot."""
    for policy in spec.policies.values():
        interval = _interval(spec, policy)
        for name in policy.targets:
            lock = spec.targets[name].options.get("lock")
            if lock is None:
                continue
            span = _span(spec.keep_at(policy, name), interval)
            if span is not None and span < lock:
                message = (
                    f"`keep` lets go of snapshots of {policy.name} after about "
                    f"{format_duration(span)}, but they are locked for {format_duration(lock)}: "
                    "they stay until then, and cost room. Keep them as long, or lock them shorter."
                )
                yield ("targets", name, "lock"), message
            if interval is not None and lock < interval:
                message = (
                    f"A lock of {format_duration(lock)} ends before the next snapshot of "
                    f"{policy.name} comes ({format_duration(interval)}): in between nothing of it "
                    "is locked. Lock them longer."
                )
                yield ("targets", name, "lock"), message


def _shared_by_trust(spec: Spec) -> Iterator[Doubt]:
    """Targets that refuse no second writer, so that a lock there is but an agreement."""
    for name, target in spec.targets.items():
        if target.type == "rclone":
            message = (
                f"No remote of rclone refuses a second writer. Let one host alone prune `{name}`."
            )
            yield ("targets", name, "remote"), message


def _unrestored(spec: Spec) -> Iterator[Doubt]:
    restored = {name for step in spec.recovery for name in step.restore}
    for name in spec.sources:
        if name not in restored:
            message = f"The recovery never restores `{name}`. Add `- {{restore: {name}}}` to it."
            yield ("sources", name), message


def _without_a_place(spec: Spec) -> Iterator[Doubt]:
    """Remotes that a recovery cannot write to, with no clone that it could restore instead."""
    restored = {name for step in spec.recovery for name in step.restore}
    for name, source in spec.sources.items():
        remote = source.type == "git" and "url" in source.options
        if remote and "path" not in source.options and name in restored:
            message = (
                f"The recovery has no place to restore `{name}` to. Add `path: FOLDER` beside "
                "`url`: where its working clone is to stand."
            )
            yield ("sources", name), message


def _not_incremental(spec: Spec) -> Iterator[Doubt]:
    for name, policy in spec.policies.items():
        if policy.kind == "incremental":
            message = (
                "None of its sources has an incremental form: each takes a full. Write kind: full."
            )
            yield ("policies", name, "kind"), message


def _told_secrets(spec: Spec) -> Iterator[Doubt]:
    """Variables of commands that look like secrets: a step is shown with its environment."""
    said: dict[tuple[str | int, ...], Mapping[str, str]] = {
        **{("services", name): one.environment for name, one in spec.services.items()},
        **{("recovery", index): one.environment for index, one in enumerate(spec.recovery)},
    }
    for place, environment in said.items():
        for name, value in environment.items():
            if value and _SECRET.search(name) and not _NO_SECRET.search(name):
                message = (
                    f"{name} looks like a secret, and its value will stand in plans, journals and "
                    "runbooks. Leave it to an env_file, whose variables a command has anyway, or "
                    "have the command read it."
                )
                yield (*place, "env", name), message


def _odd_globs(spec: Spec) -> Iterator[Doubt]:
    """Globs of `exclude` that another program reads otherwise."""
    for name, source in spec.sources.items():
        globs = source.options.get("exclude", ()) if source.type == "files" else ()
        for index, glob in enumerate(globs):
            place = ("sources", name, "exclude", index)
            if glob.startswith("!"):
                message = (
                    f"No glob brings back what another one excludes: `{glob}` only leaves out what "
                    "is named so, with its `!`. Exclude more precisely, or name it in `paths` of "
                    "another source."
                )
                yield place, message
            elif glob.startswith("/"):
                message = (
                    f"`{glob}` excludes nothing: names are stored without a leading slash, and "
                    "those of relative `paths` as they are written there. `holdfast ls` shows them."
                )
                yield place, message


_RULES: tuple[Callable[[Spec], Iterator[Doubt]], ...] = (
    _uncovered,
    _without_objective,
    _never_met,
    _undrilled,
    _slow_steps,
    _unencrypted,
    _blind,
    _too_few_targets,
    _forgets_too_soon,
    _locked_oddly,
    _shared_by_trust,
    _unrestored,
    _without_a_place,
    _not_incremental,
    _told_secrets,
    _odd_globs,
    misplaced_keys,
    late_folders,
    overlaps,
)


def _covering(spec: Spec, source: str) -> list[Policy]:
    return [policy for policy in spec.policies.values() if source in policy.sources]


def _rpo(spec: Spec, name: str) -> float | None:
    return spec.objectives[name].rpo if name in spec.objectives else None


def _interval(spec: Spec, policy: Policy) -> float | None:
    return None if policy.schedule is None else _longest(policy.schedule, spec.timezone)


@cache
def _longest(schedule: str, timezone: str) -> float:
    return Schedule.parse(schedule, timezone).longest_interval()


def _longest_age(spec: Spec, policy: Policy) -> float:
    return (_interval(spec, policy) or 0.0) + (policy.expected or 0.0)


def _time_to_notice(spec: Spec, policy: Policy) -> tuple[float, str]:
    """The longest time between two proofs or drills that would show a loss, and what says so."""
    declared = [
        (every, f"objectives.{name}.{key}")
        for name in (*policy.sources, SYSTEM)
        if (objective := spec.objectives.get(name)) is not None
        for key, every in (
            ("proof_every", objective.proof_every),
            ("drill_every", objective.drill_every),
        )
        if every is not None
    ]
    # A proof shows what a drill would show, so the drills count only where there are no proofs.
    proofs = [one for one in declared if one[1].endswith("proof_every")]
    return max(proofs or declared, default=(USUAL_NOTICE, "a week, since nothing is declared"))


def _span(keep: Keep, interval: float | None) -> float | None:
    """About how far back a retention reaches, in seconds; None: for ever, or nobody knows."""
    if keep.forever or (keep.max_size is not None and keep == Keep(max_size=keep.max_size)):
        return None
    if keep.last and interval is None:
        return None
    spans = [keep.within, keep.last * (interval or 0.0)]
    for name, period in _PERIODS.items():
        spans.append(getattr(keep, name) * max(parse_duration(period), interval or 0.0))
    return max(spans)


def _device(path: Path) -> int | None:
    """The device of a path, or of the nearest folder above it that is there."""
    for one in (path, *path.parents):
        try:
            return os.stat(one).st_dev  # noqa: PTH116 one call, whatever the path is
        except OSError:
            continue
    return None
