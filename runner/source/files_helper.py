"""A second process that reads files, a batch at a time, while this one does something else."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from subprocess import PIPE, Popen

from runner.errors import StepFailed
from runner.process import started
from runner.source import files_hash
from runner.source.files_hash import ANSWER_BYTES, BEHIND, Content, answered, question

# One batch: enough to be worth a question, and far less than a pipe takes at once.
MOST_FILES = 64
_MOST_PATH_BYTES = 16 << 10
_MOST_CONTENT_BYTES = 1 << 20

_UNDER_WAY = 2  # batches at the second process: the next one waits there for the last to end
_FILE_COSTS = 16 << 10  # opening a file takes as long as hashing so many bytes
_WORTH_A_PROCESS = 64 << 20  # bytes, or files at that cost


@dataclass
class Batch:
    """Neighbours that are read together."""

    files: list[tuple[bytes, int]] = field(default_factory=list)  # path and size, in their order
    paths: int = 0  # bytes of the files' paths
    content: int = 0  # bytes of the files
    read: list[Content | None] | None = None  # of each file, once asked; None: unreadable

    def add_file(self, path: bytes, size: int) -> None:
        """Take a file in."""
        self.files.append((path, size))
        self.paths += len(path)
        self.content += size

    @property
    def full(self) -> bool:
        """Whether the next file belongs into another batch."""
        return (
            len(self.files) >= MOST_FILES
            or self.content >= _MOST_CONTENT_BYTES
            or self.paths >= _MOST_PATH_BYTES
        )


class Helper:
    """A second process that reads batches of files, in the order in which it is given them."""

    def __init__(self, process: Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._asking = process.stdin
        self._answers = process.stdout.fileno()
        self._under_way: deque[Batch] = deque()

    def takes(self, batch: Batch) -> bool:
        """Give it a batch, unless it has enough to do."""
        while self._under_way and select.select([self._answers], [], [], 0)[0]:
            self.collect()
        if len(self._under_way) >= _UNDER_WAY:
            return False
        try:
            self._asking.write(question(batch.files))
            self._asking.flush()
        except BrokenPipeError as error:
            raise _ended() from error
        self._under_way.append(batch)
        return True

    def collect(self) -> None:
        """Take the answer for the batch that has been under way for longest."""
        batch = self._under_way.popleft()
        left = len(batch.files) * ANSWER_BYTES
        answer = bytearray()
        while left > len(answer):
            piece = os.read(self._answers, left - len(answer))
            if not piece:
                raise _ended()
            answer += piece
        batch.read = [
            answered(bytes(answer[at : at + ANSWER_BYTES])) for at in range(0, left, ANSWER_BYTES)
        ]

    def end(self) -> None:
        """Ask nothing more, and take what is under way."""
        self._asking.close()
        while self._under_way:
            self.collect()


@contextlib.contextmanager
def helping(*, behind: bool = False) -> Iterator[Helper]:
    """A helper for as long as the block lasts. `behind`: it reads what is still being written."""
    program = [sys.executable, "-I", "-S", files_hash.__file__, *([BEHIND] if behind else [])]
    with started(program, stdin=PIPE, stdout=PIPE) as process:
        helper = Helper(process)
        yield helper
        helper.end()
        process.wait()


def worth_a_helper(content: int, files: int) -> bool:
    """Whether so many files, with so many bytes in all, are better read by two processes."""
    return content + files * _FILE_COSTS > _WORTH_A_PROCESS and len(os.sched_getaffinity(0)) > 1


def _ended() -> StepFailed:
    return StepFailed(
        "The process that reads the restored files again ended early.", remedy="Resume the run."
    )
