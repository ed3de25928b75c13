"""Progress on a terminal: what runs now, how much it moved, and what has ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from runner.report.reporters import Event, Listener, line_of
from runner.spec.units import format_size

STYLES = {
    "ok": "green",
    "FAIL": "bold red",
    "skip": "dim",
    "stop": "yellow",
    "undo": "yellow",
    "WAIT": "bold yellow",
}


def console_reporter() -> Listener:
    """A listener that draws on standard error."""
    return Drawing(Console(stderr=True, markup=False, highlight=False, soft_wrap=True))


class Drawing:
    """Draws one run: a line for each step that ended, a spinner for each that runs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._progress: Progress | None = None
        self._tasks: dict[str, Any] = {}

    def __call__(self, event: Event) -> None:
        """Take one event."""
        handlers: dict[str, Callable[[Event], None]] = {
            "run": self._begin,
            "started": self._started,
            "progress": self._moved,
            "ended": self._ended,
            "end": self._end,
        }
        with self._lock:
            handlers.get(event["event"], self._say)(event)

    def _begin(self, _event: Event) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[moved]}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        self._progress.start()

    def _started(self, event: Event) -> None:
        self._say(event)
        if self._progress is not None and event["step"] not in self._tasks:
            task = self._progress.add_task(event["step"], total=None, moved="")
            self._tasks[event["step"]] = task

    def _moved(self, event: Event) -> None:
        task = self._tasks.get(event["step"])
        if self._progress is not None and task is not None:
            self._progress.update(task, moved=format_size(event["bytes"]))

    def _ended(self, event: Event) -> None:
        task = self._tasks.pop(event["step"], None)
        if self._progress is not None and task is not None:
            self._progress.remove_task(task)
        self._say(event)

    def _say(self, event: Event) -> None:
        line = line_of(event)
        if line is not None:
            text = Text(line)
            text.stylize(STYLES.get(line.split()[0], ""), 0, 5)
            self._console.print(text)

    def _end(self, _event: Event) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        self._tasks.clear()
