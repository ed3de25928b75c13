"""Commands that look: at the spec, the catalog, runs, the machine."""

from __future__ import annotations

from pathlib import Path

from runner import journeys
from runner.commands.flags import ADDRESS, AT, POLICY, SNAPSHOT, SOURCE, TARGET, count, given
from runner.errors import UsageError
from runner.face import DECRYPTS, TESTS, command
from runner.report import views
from runner.report.outcome import Outcome
from runner.typed import Flags


@command(texts={"strict": "Warnings are errors: exit 3."})
def validate(flags: Flags, *, strict: bool = False) -> Outcome:
    """Check the spec alone: errors with line and column, and what can never meet objectives."""
    from runner.report.validation import validated

    return validated(flags.call, strict=strict)


@command(
    texts={
        "source": SOURCE,
        "policy": POLICY,
        "target": TARGET,
        "safety": "Show the safety copies of what recoveries replaced, instead of snapshots.",
        "from_": ADDRESS + " Needs no spec.",
        "project": "With --from: only this project.",
    }
)
def list_snapshots(
    flags: Flags,
    *,
    source: tuple[str, ...] = (),
    policy: tuple[str, ...] = (),
    target: tuple[str, ...] = (),
    safety: bool = False,
    from_: str = "",
    project: str = "",
) -> Outcome:
    """Show the catalog: the snapshots that the targets hold."""
    if safety:
        return journeys.list_safety(flags.call)
    if from_:
        if target:
            raise UsageError("--from names the only target that is looked at: leave out --target.")
        profile = flags.call.profile
        return journeys.overview(
            from_, project=project, profile=profile, sources=source, policies=policy
        )
    return views.catalog(flags.call, sources=source, policies=policy, targets=target)


@command(texts={"snapshot": SNAPSHOT, "run": "Id of a run."})
def show(flags: Flags, *, snapshot: str = "", run: str = "") -> Outcome:
    """Show one snapshot's manifest, or one run step by step."""
    if bool(snapshot) == bool(run):
        raise UsageError("Say which one.", remedy="Give --snapshot ID or --run RUN.")
    return views.run(flags.call, run) if run else views.snapshot(flags.call, snapshot)


@command(
    DECRYPTS,
    texts={
        "source": "Name of the source.",
        "snapshot": SNAPSHOT,
        "at": AT,
        "include": "Globs over names; repeat it, or separate by commas.",
    },
)
def ls(
    flags: Flags,
    *,
    source: str = "",
    snapshot: str = "latest",
    at: str = "",
    include: tuple[str, ...] = (),
) -> Outcome:
    """List what is inside a snapshot of one source."""
    choosing = journeys.Choosing(snapshot, at or None)
    return views.contents(flags.call, given(source, "source"), choosing, include)


@command(
    DECRYPTS | TESTS,
    texts={
        "ready": "Say whether a recovery could start now: snapshots, identity, programs, space.",
    },
)
def status(flags: Flags, *, ready: bool = False) -> Outcome:
    """Say how things stand: runs, ages against RPO, proofs, drills, targets."""
    return views.readiness(flags.call) if ready else views.status(flags.call)


@command(
    texts={
        "runs": "Show runs (default).",
        "drills": "Show drills.",
        "verify": "With --drills: check each report, its journal, and the chain of reports.",
        "report_dir": "With --verify: the folder of the reports. Default: that of `drill`.",
        "last": "How many of the newest to show, or `all`.",
    }
)
def history(
    flags: Flags,
    *,
    runs: bool = False,
    drills: bool = False,
    last: str = "50",
    verify: bool = False,
    report_dir: str = "",
) -> Outcome:
    """Show past runs, drills or both, newest first."""
    if verify:
        if not drills or runs:
            raise UsageError("--verify goes with --drills.")
        folder = Path(report_dir).expanduser().absolute() if report_dir else None
        return views.drill_evidence(flags.call, folder)
    return views.history(flags.call, runs=runs or not drills, drills=drills, most=count(last))


@command()
def doctor(flags: Flags) -> Outcome:
    """Check programs, versions, targets, permissions, clock and free space."""
    return views.doctor(flags.call)
