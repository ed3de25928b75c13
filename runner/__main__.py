"""The installed console program: the same tasks as `invoke`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. A bug is told in one line, never as a traceback."""
    try:
        from runner.program import run  # here: what takes so long is what Ctrl-C comes upon
    except KeyboardInterrupt:
        _tell_interrupted()
    else:
        run(sys.argv)


def _tell_interrupted() -> None:
    """As `face` does. A module whose import was interrupted cannot be imported any more."""
    message = "Interrupted before anything was begun."
    if "--json" in sys.argv:
        print(f'{{"ok": false, "error": {{"kind": "interrupted", "message": "{message}"}}}}')
    else:
        print(f"Error: {message}", file=sys.stderr)
    sys.exit(130)


if __name__ == "__main__":
    main()
