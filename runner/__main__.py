"""The installed console program: the same tasks as `invoke`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line. A bug is told in one line, never as a traceback."""
    try:
        from runner.program import run  # here: what takes so long is what Ctrl-C comes upon
    except KeyboardInterrupt:
        _leave(130, "interrupted", "Interrupted before anything was begun.")
    except Exception as error:
        if os.environ.get("HOLDFAST_DEBUG"):
            raise
        why = " ".join(f"{type(error).__name__} {error}".split())
        _leave(
            4,
            "failed",
            f"Holdfast cannot be loaded: {why}. Install it again, or let it have more memory "
            "(`ulimit -v`) and open files (`ulimit -n`); HOLDFAST_DEBUG=1 shows where.",
        )
    else:
        run(sys.argv)


def _leave(code: int, kind: str, message: str) -> None:
    """As `face` does. A module whose import was interrupted cannot be imported any more."""
    if "--json" in sys.argv:
        text = message.replace("\\", "/").replace('"', "'")
        print(f'{{"ok": false, "error": {{"kind": "{kind}", "message": "{text}"}}}}')
    else:
        print(f"Error: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
