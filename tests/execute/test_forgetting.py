"""Which runs are no longer remembered: never those of another kind, and none that goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.durable import write_bytes
from runner.execute import journal as journals
from runner.execute.forgetting import drop_old_runs
from runner.plan.model import Plan, Step
from tests.inside import Inside

RUN = "20261120T021500Z-trial-7f3a9c"
PLAN = Plan("trial", "quaybot", "default", "0" * 64, (Step("a", "trial.work", "A"),))
SPEC = """\
version: 1
project: quaybot
sources: {config: {type: files, paths: [config]}}
targets: {disk: {type: local, path: backups}}
policies:
  hourly: {schedule: 24h}
  monthly: {schedule: 30d}
"""


@pytest.fixture
def holdfast(tmp_path: Path) -> Inside:
    """A service without a snapshot."""
    (tmp_path / "backup.yaml").write_text(SPEC)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "settings.ini").write_text("[bot]\n")
    return Inside(tmp_path)


def test_many_backups_do_not_push_out_the_one_recovery(holdfast: Inside, tmp_path: Path) -> None:
    holdfast("backup", status=0)
    document = holdfast.json("restore", "--source", "config", "--confirm", "config")
    state = tmp_path / ".holdfast"
    latest = [holdfast.json("backup")["run"] for _ in range(3)]
    drop_old_runs(state, 2)
    assert journals.list_runs(state) == [document["run"], *latest[1:]]
    assert set((state / "run-order").read_text().split()) == {document["run"], *latest[1:]}


def test_of_backups_with_nothing_to_do_the_last_one_is_remembered(holdfast: Inside) -> None:
    first = holdfast.json("backup", "--due")["run"]
    holdfast("backup", "--due", status=0)
    idle = holdfast.json("backup", "--due")["run"]
    assert _history(holdfast) == [idle, first]
    forced = holdfast.json("backup")["run"]
    holdfast("backup", "--due", status=0)
    again = holdfast.json("backup", "--due")["run"]
    assert _history(holdfast) == [again, forced, idle, first]


def test_the_last_run_of_a_policy_is_found_behind_many_of_another(
    holdfast: Inside, tmp_path: Path
) -> None:
    holdfast("backup", "--policy", "monthly", status=0)
    newest = holdfast.json("backup", "--policy", "hourly")["run"]
    _repeat(tmp_path / ".holdfast", newest, 600)
    told = {one["policy"]: one["last_run"] for one in holdfast.json("status")["policies"]}
    assert told["monthly"]["status"] == told["hourly"]["status"] == "done"


def test_a_run_that_was_killed_is_remembered_until_it_is_settled(tmp_path: Path) -> None:
    begun(tmp_path).close()
    later = RUN.replace("trial-7", "trial-8")
    journals.create_run(tmp_path, later, PLAN, ()).close()
    drop_old_runs(tmp_path, 1)
    assert journals.list_runs(tmp_path) == [RUN, later]


def test_a_run_that_was_killed_before_its_first_word_leaves_no_mark_for_ever(
    tmp_path: Path,
) -> None:
    begun(tmp_path).close()
    (journals.run_folder(tmp_path, RUN) / journals.JOURNAL).unlink()
    journals.create_run(tmp_path, RUN.replace("trial-7", "trial-0"), PLAN, ()).close()
    drop_old_runs(tmp_path, 1)
    assert not journals.open_mark(tmp_path, RUN).exists()


def test_a_run_that_begins_is_never_taken_for_an_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path).close()
    drop_old_runs(tmp_path, 1)
    new = RUN.replace("trial-7", "trial-0")

    def drop_old_ones(path: Path, data: bytes) -> None:
        (tmp_path / journals.OPEN / RUN).unlink(missing_ok=True)
        drop_old_runs(tmp_path, 1)
        write_bytes(path, data)

    monkeypatch.setattr(journals, "write_bytes", drop_old_ones)
    journals.create_run(tmp_path, new, PLAN, ()).close()
    assert journals.list_runs(tmp_path) == [new]


def begun(state: Path) -> journals.Journal:
    return journals.create_run(state, RUN, PLAN, ())


def _history(holdfast: Inside) -> list[str]:
    return [one["run"] for one in holdfast.json("history", "--runs")["runs"]]


def _repeat(state: Path, run: str, times: int) -> None:
    """Write down that the like of a run ended so many times more."""
    folder = state / "runs" / run
    with (state / "run-order").open("a") as order:
        for number in range(times):
            name = f"{run[:-6]}{number:06x}"
            (state / "runs" / name).mkdir()
            for file in folder.iterdir():
                (state / "runs" / name / file.name).write_text(file.read_text().replace(run, name))
            order.write(f"{name}\n")
