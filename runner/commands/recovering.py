"""Commands that bring things back, for real or as a rehearsal."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from runner import journeys
from runner.commands.flags import AT, SNAPSHOT, SOURCE, as_shown, given
from runner.errors import UsageError
from runner.face import ACTS, ASKS, DECRYPTS, TESTS, command
from runner.report import views
from runner.report.outcome import Outcome
from runner.typed import Flags


@command(
    ACTS | DECRYPTS | ASKS,
    texts={
        "source": "Name of the source.",
        "snapshot": SNAPSHOT,
        "at": AT,
        "from_": "Target to restore from. Default: the first whose copy of the snapshot is whole.",
        "to": "Where to: a file, a folder. Default: in place, which asks for --confirm SOURCE.",
        "include": "Globs over names: restore only these.",
        "existing": "Redis: what to do with keys that exist: skip (default) | overwrite | flush.",
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
    existing: str = "",
    live: bool = False,
) -> Outcome | journeys.Prepared:
    """Bring one source back, proven equal, with a safety copy of what it replaces."""
    if existing not in ("", "skip", "overwrite", "flush"):
        raise UsageError(f"--existing cannot be `{existing}`.", remedy="skip, overwrite or flush.")
    return journeys.restore(
        flags.call,
        given(source, "source"),
        choosing=journeys.Choosing(snapshot, at or None, from_ or None),
        destination=to or "",
        include=as_shown(include),
        running=live,
        existing_keys=existing,
    )


@command(
    DECRYPTS,
    texts={
        "source": "Name of the source.",
        "snapshot": SNAPSHOT,
        "at": AT,
        "from_": "Target to read from. Default: the first that has the snapshot.",
        "include": "Globs over names: bring only these.",
        "run": "What to type there: SQL, a Redis command, a shell command. Default: read it.",
    },
)
def open_snapshot(
    flags: Flags,
    *,
    source: str = "",
    snapshot: str = "latest",
    at: str = "",
    from_: str = "",
    include: tuple[str, ...] = (),
    run: str = "",
) -> Outcome:
    """Look into a snapshot with psql, redis-cli, sqlite3 or a shell, in a scratch copy."""
    if flags.json and not run:
        raise UsageError("With --json, say what to type there.", remedy='Give --run "…".')
    looking = journeys.Looking(run or None, as_shown(include), capture=flags.json)
    choosing = journeys.Choosing(snapshot, at or None, from_ or None)
    return journeys.open_snapshot(
        flags.call, given(source, "source"), choosing=choosing, looking=looking, quiet=flags.quiet
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
    folder = Path(given(to, "to")).expanduser().absolute()
    return views.fetch(flags.call, snapshot, source, folder, decrypt=decrypt)


@command(
    ACTS | DECRYPTS | ASKS,
    texts={
        "snapshot": SNAPSHOT,
        "at": AT,
        "from_": "Target to recover from, or the address of one, whose snapshot then has the spec: "
        "s3://bucket/prefix?region=…, sftp://…, a path. Default: the first whose copy of the "
        "snapshot is whole.",
        "project": "With an address: the project. Default: the only one there.",
        "dir_": "With an address: the folder to recover into. Default: this one.",
        "allowed_signers": "With an address: the file of those whose signatures count.",
        "confirm_spec": "With an address: the sha256 of the spec that you looked at.",
        "from_profile": "Profile whose snapshots to recover. Default: the one applied.",
        "resume": "Id of a run that ended early: go on with it.",
        "done": "Ids of manual steps that were done.",
        "by": "Who did them, for the record. Default: the user who runs this, and the host.",
        "rollback": "Id of a restore or recovery: put back what it replaced.",
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
    project: str = "",
    dir_: str = "",
    allowed_signers: str = "",
    confirm_spec: str = "",
    from_profile: str = "",
    resume: str = "",
    done: tuple[str, ...] = (),
    by: str = "",
    rollback: str = "",
    steps: tuple[str, ...] = (),
    start_at: str = "",
) -> Outcome | journeys.Prepared:
    """Recover the whole system, in the order of the spec, proving each source."""
    call, choosing = (
        flags.call,
        journeys.Choosing(snapshot, at or None, from_ or None, from_profile or None),
    )
    start = _start(from_, dir_, project, allowed_signers, confirm_spec)
    if resume:
        call = call if start is None else journeys.resumed(call, start)
        return journeys.resume(
            call, "dr-restore", resume, done=done, by=by, start_at=start_at or None
        )
    if rollback:
        if start is not None:
            raise UsageError(
                "--rollback reads no target: what was replaced lies beside it.",
                remedy=f"Leave out --from, and go to the folder of the spec: cd {start.folder}",
            )
        return journeys.rollback(flags.call, rollback)
    if done or by:
        raise UsageError(
            "--done and --by go with --resume RUN.", remedy="`history --runs` lists runs."
        )
    if start is not None:
        choosing = replace(choosing, target=None)
        start = replace(start, asked=_asked(choosing, steps, start_at))
        call = journeys.bootstrap(call, start, choosing)
    return journeys.recover(call, choosing=choosing, steps=steps, start_at=start_at or None)


def _asked(choosing: journeys.Choosing, steps: tuple[str, ...], start_at: str) -> tuple[str, ...]:
    """The flags that say what is to be recovered, as they are typed."""
    snapshot = None if choosing.snapshot == journeys.LATEST else choosing.snapshot
    given_here = {
        "--snapshot": snapshot,
        "--at": choosing.at,
        "--from-profile": choosing.profile,
        "--start-at": start_at,
    }
    words = [word for name, text in given_here.items() if text for word in (name, text)]
    return (*words, *(word for name in steps for word in ("--steps", name)))


def _start(
    address: str, folder: str, project: str, signers: str, confirmed: str
) -> journeys.Start | None:
    """Where a recovery without a spec begins; None for one that has a spec here."""
    from runner.target.address import is_address

    if not is_address(address):
        if folder or project or signers or confirmed:
            raise UsageError(
                "--dir, --project, --allowed-signers and --confirm-spec go with --from ADDRESS.",
                remedy="An address or a path has a slash: s3://bucket/prefix, /mnt/usb, ./copy.",
            )
        return None
    start = Path(folder or ".").expanduser().absolute()
    return journeys.Start(
        address,
        # Paths of the spec are held against it, by their parts.
        start.resolve() if ".." in start.parts else start,
        project,
        Path(signers).expanduser().absolute() if signers else None,
        confirmed,
    )


@command(
    ACTS | DECRYPTS | TESTS,
    texts={
        "snapshot": SNAPSHOT,
        "at": AT,
        "from_": "Target to recover from. Default: the first that has the snapshot.",
        "scenario": "What is supposed: latest, random, at, target-lost, key-lost or host-lost.",
        "lost": "For target-lost: the target that is treated as gone.",
        "incident": "Time of the disaster, by which the RPO is judged. Default: now.",
        "report_dir": "Folder for the report. Default: `drills` in the state folder.",
    },
)
def drill(
    flags: Flags,
    *,
    snapshot: str = "latest",
    at: str = "",
    from_: str = "",
    scenario: str = "",
    lost: str = "",
    incident: str = "",
    report_dir: str = "",
) -> Outcome | journeys.Prepared:
    """Rehearse the whole recovery in scratch instances, measured against the objectives."""
    folder = Path(report_dir).expanduser().absolute() if report_dir else None
    choosing = journeys.Choosing(snapshot, at or None, from_ or None)
    asked = journeys.Drilling(scenario, lost, incident, folder)
    return journeys.drill(flags.call, choosing=choosing, asked=asked)


@command(
    DECRYPTS,
    texts={
        "out": "File to write; with `.html` a page for a printer. Default: print it.",
        "snapshot": "Id of a snapshot: the runbook that lies in it, instead of a new one.",
        "from_": "Target to read it from, or the address of one, which needs no spec: "
        "s3://bucket/prefix?region=…, sftp://…, a path. The runbook is the one that lies there.",
        "project": "With an address: the project. Default: the only one there.",
        "allowed_signers": "With an address: the file of those whose signatures count.",
    },
)
def runbook(
    flags: Flags,
    *,
    out: str = "",
    snapshot: str = "",
    from_: str = "",
    project: str = "",
    allowed_signers: str = "",
) -> Outcome:
    """Write the recovery as a document for a person without this tool."""
    file = Path(out).expanduser().absolute() if out else None
    start = _start(from_, "", project, allowed_signers, "")
    if start is not None:
        stored = journeys.runbook_at(
            flags.call, start, journeys.Choosing(snapshot or journeys.LATEST)
        )
        return views.snapshot_runbook(stored, file)
    if snapshot or from_:
        return views.stored_runbook(flags.call, snapshot or journeys.LATEST, from_, file)
    return views.runbook(flags.call, file)


@command(ACTS | DECRYPTS | ASKS, texts={"plan": "File of a plan that --dry-run --out saved."})
def apply(flags: Flags, *, plan: str = "") -> Outcome | journeys.Prepared:
    """Execute a saved plan; a stale one is refused."""
    return journeys.apply(flags.call, file=Path(given(plan, "plan")).expanduser())
