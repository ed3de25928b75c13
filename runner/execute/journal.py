"""The journal of a run: JSON lines, one fsync an event; the run's state is the fold of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.durable import PRIVATE_FILE, make_folder, naming, sync_folder, write_bytes
from runner.errors import HoldfastError, Interrupted, Locked, UsageError
from runner.execute.run_order import in_order, note_run
from runner.owner import Owner, alive, is_locked, lock, seen, this_process
from runner.plan.model import Plan, canonical, plan_from_json
from runner.secret import SCRUBBER

PLAN = "plan.json"
JOURNAL = "journal.jsonl"
OPEN = "open-runs"

RUN_ID = re.compile(r"[0-9]{8}T[0-9]{6}Z-[a-z-]+-[0-9a-f]{6}")

Event = Mapping[str, Any]
Listener = Callable[[Event], None]


@dataclass(frozen=True)
class StepResult:
    """How one step stands in a run."""

    step: str
    # started (without an end: a killed run left it), done, skipped, blocked, failed, interrupted
    # or undone.
    status: str
    attempt: int = 1
    started_at: str | None = None
    ended_at: str | None = None
    seconds: float | None = None
    outputs: Mapping[str, Any] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None
    reason: str = ""  # why it was skipped

    @property
    def done(self) -> bool:
        """Whether what the step was for is there."""
        return self.status == "done"

    @property
    def kind(self) -> str | None:
        """The kind of its error; None where it has none."""
        return (self.error or {}).get("kind")

    @property
    def message(self) -> str:
        """What its error says; empty where it has none."""
        return str((self.error or {}).get("message") or "")

    @property
    def why(self) -> str:
        """Why it is not done."""
        return self.message or self.reason or self.status


def is_done(step_id: str, results: Mapping[str, StepResult]) -> bool:
    """Whether a step has ended well."""
    result = results.get(step_id)
    return result is not None and result.done


@dataclass(frozen=True)
class RunState:
    """What a journal says of its run."""

    run: str
    owner: Owner | None = None
    again: str = ""  # flags that the line needs which goes on with it
    started_at: str | None = None
    ended_at: str | None = None  # None: still running, or killed
    status: str = "running"
    exit_code: int | None = None
    results: Mapping[str, StepResult] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)  # from its end: what it reported
    error: Mapping[str, Any] | None = None
    reported: Mapping[str, Any] = field(default_factory=dict)  # steps a person reported: who, when
    held: bool = True  # whether a process that is not seen from here may have its journal

    @property
    def killed(self) -> bool:
        """Whether it neither ended nor has a living process."""
        lives = self.held and self.owner is not None and alive(self.owner)
        return self.ended_at is None and not lives

    @property
    def over(self) -> bool:
        """Whether it does nothing more by itself: it ended, or was killed."""
        return self.ended_at is not None or self.killed


class Journal:
    """Appends events durably, scrubbed of secrets, and tells the listeners.

    Of one run there is one at a time, whose process may be one that cannot be seen from here, in a
    container: another one raises Locked.
    """

    def __init__(self, folder: Path, listeners: Iterable[Listener] = ()) -> None:
        self._folder = folder
        self._listeners = tuple(listeners)
        self._lock = threading.Lock()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self._descriptor = os.open(folder / JOURNAL, flags, PRIVATE_FILE)
        try:
            if not lock(self._descriptor):
                raise Locked(
                    f"The run {folder.name} is still going on.", remedy="Wait until it has ended."
                )
            sync_folder(folder)
            self._end_torn_line()
        except BaseException:
            self.close()
            raise

    def append(self, event: str, **values: Any) -> None:
        """Write one event; it is durable when this returns."""
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        record = {"at": at.replace("+00:00", "Z"), "event": event, **values}
        clean = scrubbed(record)
        with self._lock, naming(self._folder / JOURNAL):
            self._write(canonical(clean) + b"\n")
            os.fsync(self._descriptor)
        self.tell(clean)

    def _write(self, line: bytes) -> None:
        """Write a line, or nothing: behind one that a full disk cut off the next one is lost."""
        size = os.fstat(self._descriptor).st_size
        try:
            while line:
                line = line[os.write(self._descriptor, line) :]
        except OSError:
            os.ftruncate(self._descriptor, size)
            raise

    def tell(self, event: Event) -> None:
        """Tell the listeners alone: progress is not worth an fsync."""
        for listener in self._listeners:
            # Who watches never changes what happens: a terminal may be closed.
            with contextlib.suppress(Exception):
                listener(event)

    def end(self, **values: Any) -> None:
        """Write the run's last event, after which it is no longer open."""
        self.append("end", **values)
        with contextlib.suppress(FileNotFoundError):
            _open_mark(self._folder).unlink()

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

    def _end_torn_line(self) -> None:
        path = self._folder / JOURNAL
        if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
            os.write(self._descriptor, b"\n")


def scrubbed(value: Any) -> Any:
    """A JSON value without any secret in its texts."""
    if isinstance(value, str):
        return SCRUBBER.clean(value)
    if isinstance(value, Mapping):
        return {key: scrubbed(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [scrubbed(one) for one in value]
    return value


def create_run(
    state: Path, run: str, plan: Plan, listeners: Iterable[Listener], again: str = ""
) -> Journal:
    """Make a run's folder with its plan, and open its journal. `again` are the flags by which it
    can be gone on with, where the spec here alone does not do.
    """
    folder = run_folder(state, run)
    make_folder(state)
    # First of all: what is there and not noted counts as the oldest, and could be dropped.
    note_run(state, run)
    make_folder(folder)
    write_bytes(folder / PLAN, canonical(plan.as_json()))
    return continue_run(state, run, plan, listeners, again)


def continue_run(
    state: Path, run: str, plan: Plan, listeners: Iterable[Listener], again: str = ""
) -> Journal:
    """Open the journal of a run that ended early. Raises Locked if it goes on."""
    _open(run_folder(state, run))
    journal = Journal(run_folder(state, run), listeners)
    _begin(journal, run, plan, again)
    return journal


def _begin(journal: Journal, run: str, plan: Plan, again: str) -> None:
    journal.append(
        "run",
        run=run,
        kind=plan.kind,
        plan=plan.id,
        owner=this_process().to_json(),
        **({"again": again} if again else {}),
    )


def give_up(state: Path, run: str, error: HoldfastError) -> None:
    """Write down that a run that was killed has ended, though its plan cannot be read any more."""
    journal = Journal(run_folder(state, run))
    try:
        journal.end(
            status="interrupted",
            exit_code=Interrupted.exit_code,
            error=error.as_json(),
            seconds=0.0,
        )
    finally:
        journal.close()


def kind_of(run: str) -> str:
    """What a run is, by its id: backup, restore and so on."""
    return run.partition("-")[2].rpartition("-")[0]


def run_folder(state: Path, run: str) -> Path:
    """Where a run's plan and journal lie. Raises UsageError for what is not a run's id."""
    if not RUN_ID.fullmatch(run):
        raise UsageError(f"There is no run {run!r}.", remedy="`history` lists them.")
    return state / "runs" / run


def read_plan(state: Path, run: str) -> Plan:
    """A run's plan. Raises UsageError when there is no such run or it is damaged."""
    path = run_folder(state, run) / PLAN
    try:
        return plan_from_json(json.loads(path.read_bytes()))
    except FileNotFoundError as error:
        raise UsageError(f"There is no run `{run}`.", remedy="`history` lists them.") from error
    except ValueError as error:
        raise UsageError(f"The plan of run {run} cannot be used: {error}.") from error


def open_runs(state: Path) -> list[str]:
    """The runs that have not ended: they go on, or were killed. Oldest first."""
    folder = state / OPEN
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    names = [name for name in names if RUN_ID.fullmatch(name)]
    return [name for name in names if has_begun(state, name)]


def list_runs(state: Path) -> list[str]:
    """The ids of all runs, oldest first."""
    folder = state / "runs"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return in_order(state, (name for name in names if RUN_ID.fullmatch(name)))


def has_begun(state: Path, run: str) -> bool:
    """Whether a run has a journal: one that was killed at once has none."""
    return (run_folder(state, run) / JOURNAL).exists()


def read_run(state: Path, run: str) -> RunState:
    """The state of a run. Raises UsageError when there is none."""
    path = run_folder(state, run) / JOURNAL
    if not path.exists():
        raise UsageError(f"There is no run `{run}`.", remedy="`history` lists them.")
    known = fold(run, read_events(path))
    if known.ended_at is not None or known.owner is None or seen(known.owner):
        return known
    return replace(known, held=is_locked(path))


def read_events(path: Path) -> list[Event]:
    """The events of a journal; a torn line is ignored."""
    events: list[Event] = []
    for line in path.read_bytes().splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            events.append(event)
    return events


def fold(run: str, events: Iterable[Event]) -> RunState:
    """A run's state from its events: pure."""
    state = RunState(run)
    for event in events:
        state = _FOLDS.get(event["event"], _unknown)(state, event)
    return state


def open_mark(state: Path, run: str) -> Path:
    """The file that is there as long as a run has not ended."""
    return state / OPEN / run


def _open(folder: Path) -> None:
    mark = _open_mark(folder)
    make_folder(mark.parent)
    mark.touch(PRIVATE_FILE)
    sync_folder(mark.parent)


def _open_mark(folder: Path) -> Path:
    return open_mark(folder.parent.parent, folder.name)


def _unknown(state: RunState, _event: Event) -> RunState:
    return state


def _run(state: RunState, event: Event) -> RunState:
    return replace(
        state,
        owner=Owner.from_json(event["owner"]),
        again=event.get("again", state.again),
        started_at=state.started_at or event["at"],
        ended_at=None,
        status="running",
        exit_code=None,
        error=None,
    )


def _step(state: RunState, event: Event) -> RunState:
    known = state.results.get(event["step"])
    if event["event"] == "started":
        result = StepResult(
            event["step"], "started", event.get("attempt", 1), started_at=event["at"]
        )
    else:
        result = StepResult(
            event["step"],
            event["status"],
            known.attempt if known else 1,
            started_at=known.started_at if known else None,
            ended_at=event["at"],
            seconds=event.get("seconds"),
            outputs=event.get("outputs", {}),
            error=event.get("error"),
            reason=event.get("reason", ""),
        )
    return replace(state, results={**state.results, event["step"]: result})


def _reported(state: RunState, event: Event) -> RunState:
    entry = {"by": event.get("by"), "at": event["at"]}
    return replace(state, reported={**state.reported, event["step"]: entry})


def _end(state: RunState, event: Event) -> RunState:
    return replace(
        state,
        ended_at=event["at"],
        status=event["status"],
        exit_code=event.get("exit_code"),
        details=event.get("details", {}),
        error=event.get("error"),
    )


_FOLDS: dict[str, Callable[[RunState, Event], RunState]] = {
    "run": _run,
    "started": _step,
    "ended": _step,
    "reported": _reported,
    "end": _end,
}
