"""Runs that ended early: what is kept, what runs again, and what a person must decide."""

from __future__ import annotations

import fcntl
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.errors import Locked, PersonNeeded, StepFailed, UsageError
from runner.execute import journal as journals
from runner.execute import runs, settling
from runner.execute.context import Context
from runner.execute.ending import Finished, Settings
from runner.execute.journal import read_run
from runner.execute.locks import RUN_LOCK, SETTLE_LOCK, held
from runner.owner import lock, this_process
from runner.plan.model import Step
from runner.spec.load import load_spec
from runner.spec.model import Spec
from tests.execute.conftest import RUN
from tests.execute.test_driver import step
from tests.execute.trial import Log
from tests.spec.builders import SMALL, write_spec

Run = Callable[..., Finished]
BY_HAND = Step("dns", "person.ask", "Point the record at the new host.", params={"entry": "dns"})


def test_what_is_done_is_kept_and_what_failed_runs_again(
    execute: Run, resume: Run, log: Log
) -> None:
    second = Step("b", "trial.recover", "b", params={"after": 1}, needs=("a",))
    steps = (step("a"), second, step("c", needs=("b",)))
    assert execute(*steps).exit_code == 4
    finished = resume(*steps)
    assert finished.exit_code == 0
    assert finished.run == RUN
    assert log.events == ["a", "b", "b", "c"]
    with pytest.raises(UsageError, match="nothing to resume"):
        resume(*steps)


def test_what_was_taken_back_runs_again(execute: Run, resume: Run, log: Log) -> None:
    steps = (
        step("swap"),
        Step("confirm", "trial.recover", "c", params={"after": 1}, needs=("swap",)),
        step("undo", after=("swap", "confirm"), when="failure", undoes="swap"),
    )
    assert execute(*steps).exit_code == 4
    finished = resume(*steps)
    assert finished.exit_code == 0
    assert log.events == ["swap", "confirm", "undo", "swap", "confirm"]


def test_what_cleaned_up_after_kept_steps_does_not_run_again(
    execute: Run, resume: Run, log: Log
) -> None:
    steps = (
        step("stop"),
        step("start", after=("stop",), when="always", undoes="stop"),
        Step("deploy", "trial.recover", "d", params={"after": 1}, needs=("stop",)),
    )
    execute(*steps)
    resume(*steps)
    assert log.events.count("start") == 1
    assert log.events.count("deploy") == 2


def test_a_step_may_be_run_again_whatever_is_known(execute: Run, resume: Run, log: Log) -> None:
    steps = (step("a"), Step("b", "trial.recover", "b", params={"after": 1}, needs=("a",)))
    execute(*steps)
    resume(*steps, again=("a",))
    assert log.events == ["a", "b", "a", "b"]


def test_a_manual_step_waits_for_a_persons_word(
    execute: Run, resume: Run, log: Log, spec: Spec
) -> None:
    steps = (step("a"), BY_HAND, step("b", needs=("dns",)))
    finished = execute(*steps)
    assert finished.exit_code == 7
    assert finished.error is not None
    assert f"--resume {RUN} --done dns" in finished.error["message"]
    assert resume(*steps).exit_code == 7
    finished = resume(*steps, done=("dns",))
    assert finished.exit_code == 0
    outputs = finished.results["dns"].outputs
    assert outputs["by"] == "test"
    assert outputs["at"] == read_run(spec.state, RUN).reported["dns"]["at"]
    assert log.events == ["a", "b"]


def test_a_word_once_given_is_remembered(execute: Run, resume: Run, spec: Spec) -> None:
    steps = (BY_HAND, Step("b", "trial.recover", "b", params={"after": 1}, needs=("dns",)))
    execute(*steps)
    resume(*steps, done=("dns",))
    assert resume(*steps).exit_code == 0
    assert read_run(spec.state, RUN).reported["dns"]["by"] == "test"


def abandoned(context: Context, *results: tuple[str, str]) -> None:
    """A run whose process died: its journal ends after these events."""
    plan, state = context.plan, context.spec.state
    journal = journals.create_run(state, context.run, plan, ())
    for name, status in results:
        journal.append("started", step=name, attempt=1)
        if status != "started":
            journal.append("ended", step=name, status=status, outputs={})
    journal.close()
    file = journals.run_folder(state, context.run) / journals.JOURNAL
    lines = file.read_text().replace('"started":', '"started":1', 1)  # another process's start
    file.write_text(lines)


class TestAfterAKill:
    def steps(self) -> tuple[Step, ...]:
        return (
            step("stop"),
            step("swap", needs=("stop",)),
            step("undo", after=("swap",), when="failure", undoes="swap"),
            step("start", after=("stop", "swap", "undo"), when="always", undoes="stop"),
            step("rest", needs=("swap",)),
        )

    def test_only_what_takes_back_runs(
        self, context_of: Callable[..., Context], log: Log, spec: Spec
    ) -> None:
        context = context_of(*self.steps())
        abandoned(context, ("stop", "done"), ("swap", "started"))
        assert read_run(spec.state, RUN).killed
        (settled,) = settling.settle_killed(
            lambda _plan, _run: context_of(*self.steps()), spec.state, Settings()
        )
        assert settled.exit_code == 130
        assert log.events == ["undo", "start"]
        assert journals.open_runs(spec.state) == []
        assert not settling.settle_killed(lambda _plan, _run: context, spec.state, Settings())

    def test_two_commands_never_take_the_same_run_back_at_once(
        self, context_of: Callable[..., Context], log: Log, spec: Spec
    ) -> None:
        abandoned(context_of(*self.steps()), ("stop", "done"), ("swap", "started"))
        with held(spec.state, SETTLE_LOCK, RUN), pytest.raises(Locked):
            settling.settle_killed(
                lambda _plan, _run: context_of(*self.steps()), spec.state, Settings()
            )
        assert log.events == []

    def test_one_that_goes_on_in_another_container_is_left_alone(
        self, context_of: Callable[..., Context], resume: Run, log: Log, spec: Spec
    ) -> None:
        abandoned(context_of(*self.steps()), ("stop", "done"), ("swap", "started"))
        folder = journals.run_folder(spec.state, RUN)
        before = (folder / journals.JOURNAL).read_text()
        with (folder / journals.JOURNAL).open() as theirs:
            fcntl.flock(theirs, fcntl.LOCK_EX)
            assert not settling.settle_killed(
                lambda _plan, _run: context_of(*self.steps()), spec.state, Settings()
            )
            with pytest.raises(Locked, match="still going on"):
                resume(*self.steps())
        assert (folder / journals.JOURNAL).read_text() == before
        assert log.events == []

    def test_a_child_that_its_death_left_half_forked_does_not_save_it(
        self, context_of: Callable[..., Context], spec: Spec
    ) -> None:
        abandoned(context_of(*self.steps()), ("stop", "done"), ("swap", "started"))
        theirs = (journals.run_folder(spec.state, RUN) / journals.JOURNAL).open()
        fcntl.flock(theirs, fcntl.LOCK_EX)
        soon = threading.Timer(0.2, theirs.close)
        soon.start()
        (settled,) = settling.settle_killed(
            lambda _plan, _run: context_of(*self.steps()), spec.state, Settings()
        )
        soon.join()
        assert settled.status == "interrupted"

    @pytest.mark.parametrize("kind", ["backup", "restore"])
    def test_a_target_that_cannot_be_swept_keeps_no_backup_from_its_work(
        self, context_of: Callable[..., Context], spec: Spec, kind: str
    ) -> None:
        steps = (step("work"), step("sweep", "fail", after=("work",), when="failure"))
        run = RUN.replace("trial", kind)
        context = context_of(*steps, run=run, kind=kind)
        abandoned(context, ("work", "started"))

        def settle() -> list[Finished]:
            return settling.settle_killed(lambda _plan, _run: context, spec.state, Settings())

        if kind == "restore":
            with pytest.raises(PersonNeeded, match="cannot be done"):
                settle()
            return
        (settled,) = settle()
        assert settled.status == "interrupted"
        assert journals.open_runs(spec.state) == []

    @pytest.mark.parametrize("kind", ["backup", "restore"])
    def test_one_whose_plan_is_of_another_version_keeps_no_backup_from_its_work(
        self, context_of: Callable[..., Context], spec: Spec, kind: str
    ) -> None:
        run = RUN.replace("trial", kind)
        abandoned(context_of(*self.steps(), run=run), ("stop", "done"), ("swap", "started"))
        plan = journals.run_folder(spec.state, run) / journals.PLAN
        plan.write_text(plan.read_text().replace('"format":1', '"format":2'))

        def settle() -> None:
            assert not settling.settle_killed(
                lambda _plan, _run: pytest.fail("it was settled"), spec.state, Settings()
            )

        if kind == "restore":
            with pytest.raises(PersonNeeded, match="format 1") as asked:
                settle()
            Path(asked.value.remedy.rpartition(" ")[2].rstrip(".")).unlink()
        settle()
        assert journals.open_runs(spec.state) == []
        assert (read_run(spec.state, run).ended_at is None) is (kind == "restore")

    def test_one_is_not_resumed_while_it_is_taken_back(
        self, context_of: Callable[..., Context], resume: Run, log: Log, spec: Spec
    ) -> None:
        abandoned(context_of(*self.steps()), ("stop", "done"), ("swap", "started"))
        with held(spec.state, SETTLE_LOCK, RUN), pytest.raises(Locked):
            resume(*self.steps())
        assert log.events == []

    def test_one_of_a_host_that_is_gone_is_resumed(
        self, context_of: Callable[..., Context], resume: Run, log: Log, spec: Spec
    ) -> None:
        abandoned(context_of(*self.steps()), ("stop", "done"), ("swap", "started"))
        file = journals.run_folder(spec.state, RUN) / journals.JOURNAL
        file.write_text(file.read_text().replace('"host":"', '"host":"the-container-before-'))
        with file.open("rb") as journal:
            assert lock(journal.fileno())  # of a process that lives there
            assert not read_run(spec.state, RUN).killed
        assert read_run(spec.state, RUN).killed
        assert resume(*self.steps()).exit_code == 0

    def test_the_run_that_is_to_be_resumed_is_left_alone(
        self, context_of: Callable[..., Context], resume: Run, log: Log, spec: Spec
    ) -> None:
        abandoned(context_of(*self.steps()), ("stop", "done"), ("swap", "started"))
        settling.settle_killed(
            lambda _plan, run: pytest.fail(f"{run} was settled"), spec.state, Settings(), but=RUN
        )
        assert resume(*self.steps()).exit_code == 0
        assert log.events[0] == "swap"
        assert sorted(log.events) == ["rest", "start", "swap"]


def test_whoever_watches_hears_of_a_lock_that_was_taken_over(
    context_of: Callable[..., Context], spec: Spec
) -> None:
    lock = spec.state / "locks" / f"{RUN_LOCK}.lock"
    lock.parent.mkdir(parents=True)
    dead = replace(this_process(), started=0)
    lock.write_text(json.dumps({"run": "the-one-before", "owner": dead.to_json()}))
    told: list[journals.Event] = []
    context = context_of(step("a"), kind="backup")
    runs.execute(context.plan, context, Settings((told.append,)))
    assert told[0]["event"] == "note"
    assert "the-one-before, whose process died" in told[0]["message"]


class TestAnInterruptedCommandOfTheUser:
    @pytest.fixture
    def spec(self, tmp_path: Path) -> Spec:
        recovery = (
            "recovery:\n  - {restore: [db, config]}\n  - {name: deploy, run: echo ran >> log}\n"
        )
        return load_spec(write_spec(tmp_path, SMALL + recovery), None, environment={})

    def begin(self, context_of: Callable[..., Context], *, repeatable: bool = False) -> Any:
        params = {"entry": "deploy", "command": "echo ran >> log"}
        deploy = Step("deploy", "command.run", "Run deploy", params=params, repeatable=repeatable)
        abandoned(context_of(deploy), ("deploy", "started"))
        return deploy

    def test_asks_a_person(
        self, context_of: Callable[..., Context], resume: Run, tmp_path: Path
    ) -> None:
        deploy = self.begin(context_of)
        with pytest.raises(PersonNeeded, match="nobody knows how far it got"):
            resume(deploy)
        assert not (tmp_path / "log").exists()
        # It is still resumable, in either way.
        assert resume(deploy, done=("deploy",)).exit_code == 0
        assert not (tmp_path / "log").exists()

    def test_runs_again_when_a_person_says_so(
        self, context_of: Callable[..., Context], resume: Run, tmp_path: Path
    ) -> None:
        deploy = self.begin(context_of)
        assert resume(deploy, again=("deploy",)).exit_code == 0
        assert (tmp_path / "log").read_text() == "ran\n"

    def test_runs_again_unasked_where_the_plan_says_that_it_may(
        self, context_of: Callable[..., Context], resume: Run, tmp_path: Path
    ) -> None:
        deploy = self.begin(context_of, repeatable=True)
        assert resume(deploy).exit_code == 0
        assert (tmp_path / "log").read_text() == "ran\n"


def test_a_drill_refuses_every_path_outside_its_scratch_folder(
    context_of: Callable[..., Context], tmp_path: Path
) -> None:
    context = context_of(step("a"))
    context.require_scratch(str(tmp_path / "data"))  # no drill
    context.scratch = tmp_path / "scratch"
    context.scratch.mkdir()
    (context.scratch / "link").symlink_to(tmp_path)
    context.require_scratch(str(context.scratch / "db" / "quaybot.db"))
    for path in ("", "/", str(tmp_path / "data"), str(context.scratch / ".." / "data"),
                 str(context.scratch / "link" / "data")):  # fmt: skip
        with pytest.raises(StepFailed, match="A drill may not touch"):
            context.require_scratch(path)


def test_a_plan_that_can_never_end_is_refused(execute: Run) -> None:
    from graphlib import CycleError

    with pytest.raises(CycleError):
        execute(step("a", needs=("b",)), step("b", needs=("a",)))
