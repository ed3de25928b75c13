"""The installed console program: the same tasks as `invoke`."""

from __future__ import annotations

import sys

from invoke.program import Program

from runner import __version__


def main() -> None:
    """Run the command line. A bug is told in one line, never as a traceback."""
    from runner.commands import namespace

    program = Program(name="holdfast", binary="holdfast", namespace=namespace, version=__version__)
    arguments = sys.argv if len(sys.argv) > 1 else [*sys.argv, "--list"]
    program.run(arguments)


if __name__ == "__main__":
    main()
