"""The steps that have not begun, and which of them are to be decided on.

A step is looked at again when something it depends on has changed, and not after every event: the
recovery of some hundred services has thousands of steps.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter

from runner.plan.model import Step


def in_order(steps: Iterable[Step]) -> list[Step]:
    """Steps behind all that they need or follow. Raises CycleError for what could never end."""
    by_id = {step.id: step for step in steps}
    needs = {step.id: {*step.needs, *step.after} for step in by_id.values()}
    return [by_id[one] for one in TopologicalSorter(needs).static_order() if one in by_id]


class Agenda:
    """Steps by their place in the order: undecided, ready to start, or waiting for others."""

    def __init__(self, steps: Iterable[Step]) -> None:
        """All of them are undecided; they come in order."""
        self._steps = dict(enumerate(steps))
        self._places = {step.id: place for place, step in self._steps.items()}
        self._dependents: dict[str, list[int]] = {}
        for place, step in self._steps.items():
            for other in {*step.needs, *step.after, step.undoes} - {None}:
                self._dependents.setdefault(str(other), []).append(place)
        self._ready: set[int] = set()
        self._undecided: list[int] = []  # a heap
        self.decide_all()

    def __iter__(self) -> Iterator[Step]:
        """What has not begun, in order."""
        return iter([self._steps[place] for place in sorted(self._steps)])

    def __bool__(self) -> bool:
        return bool(self._steps)

    def undecided(self) -> Iterator[Step]:
        """Each step to decide on, in order; what `changed` adds meanwhile comes too."""
        while self._undecided:
            place = heapq.heappop(self._undecided)
            if place in self._steps and place not in self._ready:
                yield self._steps[place]

    def ready(self) -> Iterator[Step]:
        """What may run as far as the order goes."""
        return iter([self._steps[place] for place in sorted(self._ready)])

    def mark_ready(self, step: Step) -> None:
        """It was decided that it may run."""
        self._ready.add(self._places[step.id])

    def remove(self, step: Step) -> None:
        """It has begun, or will not."""
        place = self._places[step.id]
        self._ready.discard(place)
        del self._steps[place]

    def changed(self, step_id: str) -> None:
        """Another status is known of that step: decide anew on what depends on it."""
        for place in self._dependents.get(step_id, ()):
            self._ready.discard(place)
            heapq.heappush(self._undecided, place)

    def decide_all(self) -> None:
        """Something changed that concerns every step."""
        self._ready.clear()
        self._undecided = sorted(self._steps)
