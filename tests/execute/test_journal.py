"""A run's state is the fold of its journal, however the journal ended."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import UsageError
from runner.execute import journal as journals
from runner.execute.journal import JOURNAL, Journal, fold, read_events, read_run, run_folder
from runner.execute.run_order import ORDER
from runner.owner import this_process
from runner.plan.model import Plan, Step
from runner.secret import Secret

RUN = "20261120T021500Z-trial-7f3a9c"
PLAN = Plan("trial", "quaybot", "default", "0" * 64, (Step("a", "trial.work", "A"),))


def begun(state: Path, *listeners: journals.Listener) -> Journal:
    return journals.create_run(state, RUN, PLAN, listeners)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    journal = begun(tmp_path)
    journal.append("started", step="a", attempt=1)
    running = read_run(tmp_path, RUN)
    assert running.results["a"].status == "started"
    assert not running.killed
    assert journals.open_runs(tmp_path) == [RUN]
    journal.append("ended", step="a", status="done", seconds=1.5, outputs={"n": 1})
    journal.end(status="done", exit_code=0, details={"kind": "trial"})
    journal.close()
    state = read_run(tmp_path, RUN)
    assert (state.status, state.exit_code, state.details) == ("done", 0, {"kind": "trial"})
    assert state.results["a"].outputs == {"n": 1}
    assert state.results["a"].started_at
    assert journals.open_runs(tmp_path) == []
    assert journals.list_runs(tmp_path) == [RUN]
    assert journals.read_plan(tmp_path, RUN).id == PLAN.id


def test_a_torn_last_line_is_ignored_and_the_next_event_is_whole(tmp_path: Path) -> None:
    journal = begun(tmp_path)
    journal.append("started", step="a", attempt=1)
    journal.close()
    file = run_folder(tmp_path, RUN) / JOURNAL
    whole = file.read_bytes()
    with file.open("ab") as torn:
        torn.write(b'{"at":"2026-11-20T02:15:01Z","event":"ended","step":"a","stat')
    assert read_run(tmp_path, RUN).results["a"].status == "started"
    journal = journals.continue_run(tmp_path, RUN, PLAN, ())
    journal.append("ended", step="a", status="done")
    journal.close()
    assert file.read_bytes().startswith(whole)
    assert read_run(tmp_path, RUN).results["a"].status == "done"


def test_an_event_that_a_full_disk_cuts_off_is_told_and_harms_no_other(tmp_path: Path) -> None:
    journal = begun(tmp_path)
    whole = (run_folder(tmp_path, RUN) / JOURNAL).read_bytes()
    no_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 20, no_limit[1]))
    try:
        with pytest.raises(OSError, match=JOURNAL):
            journal.append("started", step="a", attempt=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, no_limit)
    assert (run_folder(tmp_path, RUN) / JOURNAL).read_bytes() == whole
    journal.append("ended", step="a", status="done")
    journal.close()
    assert read_run(tmp_path, RUN).results["a"].status == "done"


@given(st.integers(0, 2000))
def test_a_journal_cut_anywhere_says_what_was_written_before(cut: int) -> None:
    owner = this_process().to_json()
    events = [
        {"at": "2026-11-20T02:15:00Z", "event": "run", "owner": owner},
        {"at": "2026-11-20T02:15:01Z", "event": "started", "step": "a", "attempt": 1},
        {"at": "2026-11-20T02:15:02Z", "event": "ended", "step": "a", "status": "done"},
        {"at": "2026-11-20T02:15:03Z", "event": "started", "step": "b", "attempt": 1},
        {"at": "2026-11-20T02:15:04Z", "event": "ended", "step": "b", "status": "failed"},
        {"at": "2026-11-20T02:15:05Z", "event": "end", "status": "failed", "exit_code": 4},
    ]
    import tempfile

    lines = b"".join(json.dumps(one).encode() + b"\n" for one in events)
    with tempfile.NamedTemporaryFile() as file:
        file.write(lines[:cut])
        file.flush()
        read = read_events(Path(file.name))
    assert read == events[: len(read)]
    state = fold(RUN, read)
    assert (state.status == "failed") is (len(read) == len(events))
    assert set(state.results) <= {"a", "b"}


def test_events_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    journal = begun(tmp_path)
    journal.append("wondered", about="life")
    journal.close()
    assert read_run(tmp_path, RUN).status == "running"


def test_secrets_are_scrubbed_from_every_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUAY_MARKER", "correct horse battery")
    marker = Secret("env:QUAY_MARKER").reveal()
    told: list[journals.Event] = []
    journal = begun(tmp_path, told.append)
    journal.append(
        "ended",
        step="a",
        status="failed",
        outputs={"output": f"it said {marker}", "deep": [{"er": (marker,)}]},
        error={"kind": "failed", "message": f"no {marker}"},
    )
    journal.close()
    assert marker.encode() not in (run_folder(tmp_path, RUN) / JOURNAL).read_bytes()
    assert marker not in repr(told)
    assert read_run(tmp_path, RUN).results["a"].outputs["output"] == "it said [secret]"


def test_a_listener_that_fails_changes_nothing(tmp_path: Path) -> None:
    def broken(_event: journals.Event) -> None:
        raise BrokenPipeError

    told: list[journals.Event] = []
    journal = begun(tmp_path, broken, told.append)
    journal.append("started", step="a")
    journal.close()
    assert [one["event"] for one in told] == ["run", "started"]


def test_files_are_private(tmp_path: Path) -> None:
    begun(tmp_path).close()
    folder = run_folder(tmp_path, RUN)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


@pytest.mark.parametrize("run", ["../../etc", "..", "", "20261120T021500Z-trial-7f3a9c/..", "\0"])
def test_what_is_no_run_is_never_a_path(tmp_path: Path, run: str) -> None:
    for read in (read_run, journals.read_plan):
        with pytest.raises(UsageError, match="There is no run"):
            read(tmp_path, run)


def test_other_folders_among_the_runs_are_passed_over(tmp_path: Path) -> None:
    begun(tmp_path).close()
    (tmp_path / "runs" / "lost+found").mkdir()
    (tmp_path / "open-runs" / "notes").touch()
    assert journals.list_runs(tmp_path) == [RUN]
    assert journals.open_runs(tmp_path) == [RUN]


def test_a_run_keeps_its_place_behind_a_note_that_a_crash_cut_off(tmp_path: Path) -> None:
    earlier, later = RUN, RUN.replace("trial-7", "trial-0")
    for run in (earlier, later):
        journals.create_run(tmp_path, run, PLAN, ()).close()
        with (tmp_path / ORDER).open("a") as noted:
            noted.write("20261120T0215")
    assert journals.list_runs(tmp_path) == [earlier, later]
