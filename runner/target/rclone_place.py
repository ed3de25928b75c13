"""Where a remote of rclone is: what the spec declares of an `rclone` target."""

from __future__ import annotations

import os
import shutil
import sysconfig
import weakref
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from runner.errors import StepFailed
from runner.secret import Secret
from runner.spec.model import TargetSpec
from runner.target.extra import install_line


@dataclass(frozen=True)
class Place:
    """One remote and a folder of it."""

    name: str  # of the target
    remote: str  # as rclone takes it: `name:path`
    config: Secret | None  # rclone's configuration; None: the user's own
    timeout: float  # seconds

    def path(self, key: str) -> str:
        """How rclone calls that key, or folder."""
        between = "" if not key or self.remote.endswith((":", "/")) else "/"
        return f"{self.remote}{between}{key}"

    @property
    def options(self) -> list[str]:
        """What every call of rclone is given. Raises UsageError when the secret cannot be had."""
        return [
            *([] if self._config is None else ["--config", self._config]),
            *("--use-json-log", "--ask-password=false", "--use-server-modtime"),
            *("--retries", "1", "--low-level-retries", "3", "--contimeout", "15s"),
            *("--timeout", f"{self.timeout:.3f}s"),
        ]

    @cached_property
    def program(self) -> str:
        """Where rclone is: beside this Python, or in the path. Raises StepFailed."""
        beside = Path(sysconfig.get_path("scripts")) / "rclone"
        found = str(beside) if os.access(beside, os.X_OK) else shutil.which("rclone")
        if found is None:
            raise StepFailed(
                f"Target {self.name} needs rclone, which is not installed here.",
                remedy=f"{install_line('rclone')}, or see https://rclone.org/install/.",
            )
        return found

    @cached_property
    def _config(self) -> str | None:
        """The configuration's path. A file is used as it is: rclone renews the tokens in it. Any
        other secret is held in memory, where rclone reads it and where it ends with this process.
        """
        if self.config is None:
            return None
        if self.config.file is not None:
            self.config.reveal()  # fails here, in words, if it cannot be read
            return str(self.config.file)
        memory = os.memfd_create("rclone.conf")
        weakref.finalize(self, os.close, memory)
        os.write(memory, self.config.reveal().encode() + b"\n")
        return f"/proc/{os.getpid()}/fd/{memory}"


def place_of(spec: TargetSpec) -> Place:
    """The place that a spec declares."""
    options = spec.options
    return Place(spec.name, options["remote"], options.get("config"), options.get("timeout", 300.0))
