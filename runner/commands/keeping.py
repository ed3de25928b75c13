"""Commands that make snapshots, prove them, and let them go."""

from __future__ import annotations

from runner import journeys
from runner.commands.flags import POLICY, SNAPSHOT, SOURCE, TARGET, given, percent
from runner.errors import UsageError
from runner.face import ACTS, ASKS, DECRYPTS, TESTS, command
from runner.report.outcome import Outcome
from runner.typed import Flags, duration


@command(
    ACTS | ASKS,
    texts={
        "policy": POLICY + " Default: all scheduled ones, or all where none is.",
        "source": SOURCE + " Default: all of each policy.",
        "due": "Only the policies whose time has come; missed ones once. For one cron line.",
        "no_prune": "Do not apply the policy's `keep` afterwards.",
        "resume": "Id of a run that ended early: go on with it.",
    },
)
def backup(
    flags: Flags,
    *,
    policy: tuple[str, ...] = (),
    source: tuple[str, ...] = (),
    due: bool = False,
    no_prune: bool = False,
    resume: str = "",
) -> Outcome | journeys.Prepared:
    """Capture the sources once, publish the snapshot at every target, verify it, prune."""
    if resume:
        return journeys.resume(flags.call, "backup", resume)
    return journeys.backup(
        flags.call, policies=policy, sources=source, only_due=due, prune=not no_prune
    )


@command(
    ACTS | DECRYPTS | TESTS,
    texts={
        "snapshot": SNAPSHOT + " Default: the newest of each policy.",
        "level": "How deep: stored | readable | restored. Default: the policy's.",
        "source": SOURCE,
        "target": TARGET,
        "sample": "Read only this part of the big files: 10%.",
    },
)
def verify(
    flags: Flags,
    *,
    snapshot: str = "latest",
    level: str = "",
    source: tuple[str, ...] = (),
    target: tuple[str, ...] = (),
    sample: str = "100%",
) -> Outcome | journeys.Prepared:
    """Read snapshots back at the targets and prove them, as deep as asked."""
    return journeys.verify(
        flags.call,
        snapshot=snapshot,
        level=level or None,
        sources=source,
        targets=target,
        sample=percent(sample),
    )


@command(
    ACTS | ASKS,
    texts={
        "policy": POLICY,
        "target": TARGET,
        "safety": "Remove safety copies of what recoveries replaced, instead of snapshots.",
        "older": "With --safety: only those of runs so long ago: 30d.",
    },
)
def prune(
    flags: Flags,
    *,
    policy: tuple[str, ...] = (),
    target: tuple[str, ...] = (),
    safety: bool = False,
    older: str = "",
) -> Outcome | journeys.Prepared:
    """Apply retention: remove the snapshots that no rule keeps."""
    if not safety:
        if older:
            raise UsageError("--older goes with --safety.", remedy="Snapshots: `keep` of a policy.")
        return journeys.prune(flags.call, policies=policy, targets=target)
    if policy or target:
        raise UsageError("--safety knows neither --policy nor --target.")
    return journeys.prune_safety(flags.call, older=duration(older) if older else 0.0)


@command(
    ACTS, texts={"snapshot": SNAPSHOT, "until": "How long: 90d. Default: until it is unpinned."}
)
def pin(flags: Flags, *, snapshot: str = "", until: str = "") -> Outcome | journeys.Prepared:
    """Keep a snapshot whatever retention says."""
    seconds = duration(until) if until else None
    return journeys.pin(flags.call, snapshot=given(snapshot, "snapshot"), seconds=seconds)


@command(ACTS, texts={"snapshot": SNAPSHOT})
def unpin(flags: Flags, *, snapshot: str = "") -> Outcome | journeys.Prepared:
    """Leave a pinned snapshot to retention again."""
    return journeys.unpin(flags.call, snapshot=given(snapshot, "snapshot"))


@command(ACTS | ASKS, texts={"snapshot": SNAPSHOT})
def delete(flags: Flags, *, snapshot: str = "") -> Outcome | journeys.Prepared:
    """Remove one snapshot from all targets."""
    return journeys.delete(flags.call, snapshot=given(snapshot, "snapshot"))


@command(
    ACTS | ASKS | DECRYPTS,
    texts={
        "snapshot": SNAPSHOT + " Repeat it, or separate by commas. Default: all.",
        "target": TARGET + " Default: all.",
        "identity": "File of the age identity that opens the old snapshots.",
    },
)
def rekey(
    flags: Flags, *, snapshot: tuple[str, ...] = (), target: tuple[str, ...] = ()
) -> Outcome | journeys.Prepared:
    """Encrypt snapshots anew for exactly the declared recipients, and remove the old ones."""
    return journeys.rekey(flags.call, snapshots=snapshot, targets=target)
