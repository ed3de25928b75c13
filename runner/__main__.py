"""The installed console program: the same tasks as `invoke`."""

from __future__ import annotations

import contextlib
import sys

from invoke.config import Config
from invoke.program import Program

from runner import __version__


class Settings(Config):
    """Invoke's settings; one file of them that this user may not read is as good as none."""

    def load_user(self, merge: bool = True) -> None:
        """Read the user's own settings, if they can be read."""
        with contextlib.suppress(PermissionError):
            super().load_user(merge=merge)


def main() -> None:
    """Run the command line. A bug is told in one line, never as a traceback."""
    from runner.commands import namespace

    program = Program(
        name="holdfast",
        binary="holdfast",
        namespace=namespace,
        version=__version__,
        config_class=Settings,
    )
    arguments = sys.argv if len(sys.argv) > 1 else [*sys.argv, "--list"]
    program.run(arguments)


if __name__ == "__main__":
    main()
