"""One Invoke task for each thing a user does: read flags, call a journey, choose the exit code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from invoke.collection import Collection

from runner import journeys
from runner.errors import UsageError
from runner.face import ACTS, ASKS, DECRYPTS, Flags, command, duration, percent
from runner.journeys import Choosing
from runner.report import views
from runner.report.outcome import Outcome

SNAPSHOT = "Id of a snapshot, a unique beginning of one, or its last six digits."
AT = "Time: the newest snapshot of each source that is not after it (2026-11-20 02:15, 2h ago)."
POLICY = "Names of policies; repeat it, or separate by commas."
SOURCE = "Names of sources; repeat it, or separate by commas."
TARGET = "Names of targets; repeat it, or separate by commas."


@command(texts={"strict": "Warnings are errors: exit 3."})
def validate(flags: Flags, *, strict: bool = False) -> Outcome:
    """Check the spec alone: errors with line and column, and what can never meet objectives."""
    return journeys.validate(flags.call, strict=strict)


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


@command(texts={"source": SOURCE, "policy": POLICY, "target": TARGET})
def list_snapshots(
    flags: Flags,
    *,
    source: tuple[str, ...] = (),
    policy: tuple[str, ...] = (),
    target: tuple[str, ...] = (),
) -> Outcome:
    """Show the catalog: the snapshots that the targets hold."""
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
    choosing = Choosing(snapshot, at or None)
    return views.contents(flags.call, _given(source, "source"), choosing, include)


@command(
    ACTS | DECRYPTS,
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
    ACTS | DECRYPTS | ASKS,
    texts={
        "source": "Name of the source.",
        "snapshot": SNAPSHOT,
        "at": AT,
        "from_": "Target to restore from. Default: the first that has the snapshot.",
        "to": "Where to: a file, a folder. Default: in place, which asks for --confirm SOURCE.",
        "include": "Globs over names: restore only these.",
        "existing": "What to do with keys that exist: skip | overwrite | flush.",
        "live": "Write into the running application's database instead of swapping it.",
    },
)
def restore(
    flags: Flags,
    *,
    source: str = "",
    snapshot: str = "latest",
    at: str = "",
    from_: str = "",
    to: str = "",
    include: tuple[str, ...] = (),
    existing: str = "skip",
    live: bool = False,
) -> Outcome | journeys.Prepared:
    """Bring one source back, proven equal, with a safety copy of what it replaces."""
    if existing not in ("skip", "overwrite", "flush"):
        raise UsageError(f"--existing cannot be `{existing}`.", remedy="skip, overwrite or flush.")
    return journeys.restore(
        flags.call,
        _given(source, "source"),
        choosing=Choosing(snapshot, at or None, from_ or None),
        destination=to or "",
        include=include,
        running=live,
        existing_keys=existing,
    )


@command(
    DECRYPTS,
    texts={
        "snapshot": SNAPSHOT,
        "source": SOURCE,
        "to": "Folder to write to.",
        "decrypt": "Write the content instead of what is stored.",
    },
)
def fetch(
    flags: Flags,
    *,
    snapshot: str = "latest",
    source: tuple[str, ...] = (),
    to: str = "",
    decrypt: bool = False,
) -> Outcome:
    """Bring a snapshot's artifacts here as files."""
    folder = Path(_given(to, "to")).expanduser().absolute()
    return views.fetch(flags.call, snapshot, source, folder, decrypt=decrypt)


@command(
    ACTS | DECRYPTS | ASKS,
    texts={
        "snapshot": SNAPSHOT,
        "at": AT,
        "from_": "Target to recover from. Default: the first that has the snapshot.",
        "from_profile": "Profile whose snapshots to recover. Default: the one applied.",
        "resume": "Id of a run that ended early: go on with it.",
        "done": "Ids of manual steps that were done.",
        "steps": "Names of the recovery steps to do; all others are left out.",
        "start_at": "Name of the recovery step to begin with.",
    },
)
def dr_restore(
    flags: Flags,
    *,
    snapshot: str = "latest",
    at: str = "",
    from_: str = "",
    from_profile: str = "",
    resume: str = "",
    done: tuple[str, ...] = (),
    steps: tuple[str, ...] = (),
    start_at: str = "",
) -> Outcome | journeys.Prepared:
    """Recover the whole system, in the order of the spec, proving each source."""
    if resume:
        return journeys.resume(
            flags.call, "dr-restore", resume, done=done, start_at=start_at or None
        )
    if done:
        raise UsageError("--done goes with --resume RUN.", remedy="`history --runs` lists runs.")
    return journeys.recover(
        flags.call,
        choosing=Choosing(snapshot, at or None, from_ or None, from_profile or None),
        steps=steps,
        start_at=start_at or None,
    )


@command(
    ACTS | DECRYPTS,
    texts={
        "snapshot": SNAPSHOT,
        "at": AT,
        "from_": "Target to recover from. Default: the first that has the snapshot.",
        "report_dir": "Folder for the report. Default: `drills` in the state folder.",
    },
)
def drill(
    flags: Flags, *, snapshot: str = "latest", at: str = "", from_: str = "", report_dir: str = ""
) -> Outcome | journeys.Prepared:
    """Rehearse the whole recovery in scratch instances, measured against the objectives."""
    folder = Path(report_dir).expanduser().absolute() if report_dir else None
    choosing = Choosing(snapshot, at or None, from_ or None)
    return journeys.drill(flags.call, choosing=choosing, report_folder=folder)


@command(ACTS | ASKS, texts={"policy": POLICY, "target": TARGET})
def prune(
    flags: Flags, *, policy: tuple[str, ...] = (), target: tuple[str, ...] = ()
) -> Outcome | journeys.Prepared:
    """Apply retention: remove the snapshots that no rule keeps."""
    return journeys.prune(flags.call, policies=policy, targets=target)


@command(texts={"snapshot": SNAPSHOT, "until": "How long: 90d. Default: until it is unpinned."})
def pin(flags: Flags, *, snapshot: str = "", until: str = "") -> Outcome:
    """Keep a snapshot whatever retention says."""
    seconds = duration(until) if until else None
    return views.pin(flags.call, _given(snapshot, "snapshot"), seconds)


@command(texts={"snapshot": SNAPSHOT})
def unpin(flags: Flags, *, snapshot: str = "") -> Outcome:
    """Leave a pinned snapshot to retention again."""
    return views.unpin(flags.call, _given(snapshot, "snapshot"))


@command(ACTS | ASKS, texts={"snapshot": SNAPSHOT})
def delete(flags: Flags, *, snapshot: str = "") -> Outcome | journeys.Prepared:
    """Remove one snapshot from all targets."""
    return journeys.delete(flags.call, snapshot=_given(snapshot, "snapshot"))


@command()
def status(flags: Flags) -> Outcome:
    """Say how things stand: runs, ages against RPO, proofs, drills, targets."""
    return views.status(flags.call)


@command(
    texts={
        "runs": "Show runs (default).",
        "drills": "Show drills.",
        "last": "How many of the newest to show, or `all`.",
    }
)
def history(flags: Flags, *, runs: bool = False, drills: bool = False, last: str = "50") -> Outcome:
    """Show past runs or drills, newest first."""
    return views.history(flags.call, drills=drills and not runs, most=_count(last))


@command(texts={"out": "File to write. Default: print it."})
def runbook(flags: Flags, *, out: str = "") -> Outcome:
    """Write the recovery as a document for a person without this tool."""
    file = Path(out).expanduser().absolute() if out else None
    return views.runbook(flags.call, file)


@command(ACTS | DECRYPTS | ASKS, texts={"plan": "File of a plan that --dry-run --out saved."})
def apply(flags: Flags, *, plan: str = "") -> Outcome | journeys.Prepared:
    """Execute a saved plan; a stale one is refused."""
    return journeys.apply(flags.call, file=Path(_given(plan, "plan")).expanduser())


@command(
    texts={
        "force": "Replace a spec that exists.",
        "tasks": "Write a tasks.py too, so that `invoke backup` works here.",
    },
    spec=False,
)
def init(flags: Flags, *, force: bool = False, tasks: bool = False) -> Outcome:
    """Look around, make a key, and write a first backup.yaml."""
    from runner.report.init import initialise

    return initialise(Path.cwd(), flags.call.file, force=force, tasks=tasks)


@command()
def doctor(flags: Flags) -> Outcome:
    """Check programs, versions, targets, permissions, clock and free space."""
    return views.doctor(flags.call)


def _count(text: str) -> int | None:
    """A number of things; None: all of them."""
    if text == "all":
        return None
    if not (text.isascii() and text.isdigit()) or int(text) == 0:
        raise UsageError(f"`{text}` is no number of them.", remedy="Write --last 20, or all.")
    return int(text)


def _given(value: str, flag: str) -> str:
    if not value:
        raise UsageError(f"--{flag} is missing.", remedy=f"Give --{flag}.")
    return value


TASKS: tuple[Any, ...] = (
    validate,
    backup,
    show,
    ls,
    verify,
    restore,
    fetch,
    dr_restore,
    drill,
    prune,
    pin,
    unpin,
    delete,
    status,
    history,
    runbook,
    apply,
    init,
    doctor,
)

namespace = Collection(*TASKS)
namespace.add_task(list_snapshots, name="list")
