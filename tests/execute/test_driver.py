"""The one loop: order, bounds, failure, time, and what is taken back."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.execute import driver
from runner.execute.ending import Finished
from runner.execute.journal import read_run
from runner.plan.model import Step
from runner.spec.model import Spec
from tests.execute.conftest import RUN
from tests.execute.trial import Log

Execute = Callable[..., Finished]


def step(name: str, verb: str = "work", **more: object) -> Step:
    fields = {key: more.pop(key) for key in list(more) if key in Step.__dataclass_fields__}
    return Step(name, f"trial.{verb}", name, params=more, **fields)  # type: ignore[arg-type]


def statuses(finished: Finished) -> dict[str, str]:
    return {name: result.status for name, result in finished.results.items()}


def test_runs_what_is_needed_first(execute: Execute, log: Log) -> None:
    finished = execute(step("c", needs=("b",)), step("b", needs=("a",)), step("a"))
    assert log.events == ["a", "b", "c"]
    assert (finished.status, finished.exit_code, finished.error) == ("done", 0, None)
    assert finished.results["a"].outputs == {"did": "a", "tried": 1}


def test_never_runs_more_at_once_than_it_may(execute: Execute, log: Log, spec: Spec) -> None:
    execute(*(step(f"s{number}", seconds=0.1) for number in range(6)))
    assert spec.parallel == 2
    assert log.most_at_once == 2


def test_steps_with_the_same_lock_never_run_together(execute: Execute, log: Log) -> None:
    locked = [step(f"l{number}", seconds=0.05, locks=("disk",)) for number in range(3)]
    execute(*locked, step("free", seconds=0.2))
    assert log.most_at_once == 2
    assert all("free" in pair for pair in log.together)


def test_steps_that_wait_for_a_target_run_beside_the_others(execute: Execute, log: Log) -> None:
    """One at each target, whatever `parallel` says."""
    targets = [step(f"t{number}", seconds=1.0, locks=(f"target:{number}",)) for number in range(4)]
    again = step("t0 again", locks=("target:0",))
    execute(*targets, again, *(step(f"s{number}", seconds=0.1) for number in range(3)))
    names = [one.id for one in targets]
    assert {frozenset(pair) for pair in itertools.combinations(names, 2)} <= log.together
    assert frozenset({"t0", "t0 again"}) not in log.together


def test_a_machine_without_threads_does_one_step_after_another(
    execute: Execute, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes back and starts again must not be lost with them."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    finished = execute(
        step("a"), step("bad", "fail", needs=("a",)), step("start", when="always", after=("bad",))
    )
    assert statuses(finished) == {"a": "done", "bad": "failed", "start": "done"}
    assert log.most_at_once == 1


def test_a_failure_blocks_only_what_needs_it(execute: Execute) -> None:
    finished = execute(
        step("bad", "fail"), step("next", needs=("bad",)), step("last", needs=("next",)),
        step("other"), step("after", after=("bad",)),
    )  # fmt: skip
    assert statuses(finished) == {
        "bad": "failed", "next": "blocked", "last": "blocked", "other": "done", "after": "done",
    }  # fmt: skip
    assert finished.exit_code == 4
    assert finished.error == {"kind": "failed", "message": "It cannot be done.", "step": "bad"}
    assert finished.results["bad"].outputs == {"found": 7}


@pytest.mark.parametrize(
    ("verbs", "code", "kind"),
    [
        (["work"], 0, None),
        (["skip"], 0, None),
        (["ask"], 7, "person"),
        (["doubt"], 7, "person"),
        (["ask", "fail"], 4, "failed"),
        (["doubt", "fail"], 4, "failed"),
        (["crash"], 4, "bug"),
        (["stopped"], 130, "interrupted"),
    ],
)
def test_the_lowest_exit_code_that_applies_wins(
    execute: Execute, verbs: list[str], code: int, kind: str | None
) -> None:
    finished = execute(*(step(verb, verb) for verb in verbs))
    assert finished.exit_code == code
    assert (finished.error or {}).get("kind") == kind


def test_a_retry_that_succeeds_is_done(execute: Execute, log: Log) -> None:
    patient = Step("a", "trial.recover", "a", params={"after": 1}, retries=2)
    began = time.monotonic()
    finished = execute(patient)
    assert finished.results["a"].status == "done"
    assert finished.results["a"].attempt == 2
    assert log.events == ["a", "a"]
    assert time.monotonic() - began >= 1.0  # the pause between them


def test_what_a_person_must_decide_is_not_tried_again(execute: Execute, log: Log) -> None:
    execute(step("a", "ask", retries=3), step("b", "misuse", retries=3))
    assert sorted(log.events) == ["a", "b"]


def test_a_timeout_ends_the_whole_process_group(execute: Execute, tmp_path: Path) -> None:
    line = "(sleep 30; touch late) & sleep 30"
    slow = step("slow", "shell", line=line, folder=str(tmp_path), timeout=0.3)
    finished = execute(slow, step("next", needs=("slow",)))
    assert statuses(finished) == {"slow": "failed", "next": "blocked"}
    assert "longer than its timeout of 0.3 s" in str(finished.error)
    assert (finished.results["slow"].seconds or 0) < 25
    assert not (tmp_path / "late").exists()


class TestTakingBack:
    def steps(self, verb: str, after_verb: str = "work") -> list[Step]:
        return [
            step("swap", verb),
            step("confirm", after_verb, needs=("swap",)),
            step("undo", after=("swap", "confirm"), when="failure", undoes="swap"),
            step("clean", after=("swap", "confirm", "undo"), when="always", undoes="swap"),
            step("rest", needs=("confirm",)),
        ]

    def test_nothing_when_all_is_well(self, execute: Execute, log: Log) -> None:
        finished = execute(*self.steps("work"))
        assert finished.results["undo"].status == "skipped"
        assert log.events[:2] == ["swap", "confirm"]
        assert set(log.events) == {"swap", "confirm", "clean", "rest"}

    def test_what_its_confirmation_did_not_bear_out(self, execute: Execute) -> None:
        finished = execute(*self.steps("work", "fail"))
        assert statuses(finished) == {
            "swap": "undone", "confirm": "failed", "undo": "done", "clean": "done",
            "rest": "blocked",
        }  # fmt: skip
        assert finished.exit_code == 4
        assert finished.error is not None
        assert finished.error["step"] == "confirm"

    def test_what_failed_itself(self, execute: Execute) -> None:
        finished = execute(*self.steps("fail"))
        assert finished.results["swap"].status == "undone"
        assert finished.results["swap"].error is not None
        assert finished.exit_code == 4

    def test_nothing_that_was_never_begun(self, execute: Execute) -> None:
        first = step("first", "fail")
        swap, *others = self.steps("work")
        swap = Step("swap", swap.action, "swap", needs=("first",))
        finished = execute(first, swap, *others)
        assert finished.results["undo"].status == "skipped"
        assert finished.results["clean"].status == "skipped"


class TestInterrupt:
    def test_takes_back_and_ends_with_130(self, execute: Execute) -> None:
        finished = execute(
            step("swap", "stopped"),
            step("undo", after=("swap",), when="failure", undoes="swap"),
            step("rest", needs=("swap",)),
        )
        assert finished.exit_code == 130
        assert finished.status == "interrupted"
        assert finished.results["undo"].status == "done"
        assert finished.results["rest"].status == "blocked"

    def test_between_two_steps_is_no_success(self, execute: Execute) -> None:
        finished = execute(step("a", "interrupt"), step("b", needs=("a",)))
        assert statuses(finished) == {"a": "done", "b": "blocked"}
        assert finished.exit_code == 130
        assert finished.error is not None
        assert finished.error["kind"] == "interrupted"

    def test_after_the_last_step_changes_nothing(self, execute: Execute) -> None:
        assert execute(step("a"), step("b", "interrupt", needs=("a",))).exit_code == 0

    def test_cleans_up_when_what_was_running_has_ended(self, execute: Execute, log: Log) -> None:
        execute(
            step("capture", seconds=0.5),
            step("publish", needs=("capture",)),
            step("sweep", after=("publish",), when="failure"),
            step("stop", "interrupt"),
        )
        assert log.events[-1] == "sweep"
        assert frozenset({"capture", "sweep"}) not in log.together

    def test_by_a_signal(self, execute: Execute) -> None:
        hung_up = step("a", "signal", number=signal.SIGHUP)
        assert statuses(execute(hung_up, step("b", needs=("a",)))) == {"a": "done", "b": "blocked"}

    def test_by_a_signal_that_is_to_be_ignored_is_none(self, execute: Execute) -> None:
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        try:
            finished = execute(step("a", "signal", number=signal.SIGHUP), step("b", needs=("a",)))
        finally:
            signal.signal(signal.SIGHUP, before)
        assert finished.exit_code == 0

    def test_ends_a_process_that_runs(self, execute: Execute, tmp_path: Path) -> None:
        slow = step("slow", "shell", line="sleep 30; touch late", folder=str(tmp_path))
        finished = execute(slow, step("stop", "interrupt", seconds=0.3))
        assert finished.results["slow"].status == "interrupted"
        assert (finished.seconds) < 25

    def test_lets_what_takes_back_go_on(self, execute: Execute, tmp_path: Path) -> None:
        undoing = tmp_path / "undoing"
        line = f"touch {undoing}; while ! test -e enough; do sleep 0.1; done; touch back"
        finished = execute(
            step("swap", "fail"),
            step(
                "undo",
                "shell",
                line=line,
                folder=str(tmp_path),
                after=("swap",),
                when="failure",
                undoes="swap",
            ),
            step("stop", "interrupt_once", there=str(undoing), then=str(tmp_path / "enough")),
        )
        assert finished.results["undo"].status == "done"
        assert (tmp_path / "back").exists()

    def test_ends_what_began_when_it_was_stopped(
        self, execute: Execute, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(driver, "GRACE_SECONDS", 0.5)
        first = "touch first; sleep 600"
        slow = step("slow", "shells", lines=[first, "sleep 600"], folder=str(tmp_path))
        stop = step("stop", "interrupt_once", there=str(tmp_path / "first"), then="")
        assert execute(slow, stop).results["slow"].status == "interrupted"


def test_the_journal_says_the_same(execute: Execute, spec: Spec) -> None:
    finished = execute(step("a"), step("b", "fail", needs=("a",)), step("c", needs=("b",)))
    state = read_run(spec.state, RUN)
    assert {name: one.status for name, one in state.results.items()} == statuses(finished)
    assert (state.status, state.exit_code, state.error) == ("failed", 4, finished.error)
