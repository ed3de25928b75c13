"""`make demo`: back up a small stack, destroy it, bring it back, and prove that it is the same.

Every command is the real program in a process of its own, run in this checkout as a person
would. What is said at the end comes from the demo's own comparison, not from Holdfast.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from demo.build import build, wreck
from demo.compare import Observation, differences, observe

ROOT = Path(__file__).resolve().parent.parent
STACK = ROOT / "demo" / "stack"
MADE = ("stack", "backups", "offsite", "keys", "reports", ".holdfast")
PROFILE = "prod"
WIDTH = 112
COMPARED = {
    "db": "row counts, SHA-256 of a full dump, pragmas and an integrity check",
    "config": "names, bytes, modes, times and links",
    "code": "every ref, HEAD, git fsck and a clean working tree",
}


class Session:
    """Runs the program and shows what a person would see."""

    def __init__(self, console: Console, most_lines: int | None) -> None:
        self.console = console
        self.most_lines = most_lines  # of one command's output that are shown; None: all
        programs = str(Path(sys.executable).parent)
        ours = {key: value for key, value in os.environ.items() if not key.startswith("HOLDFAST_")}
        self.environment = ours | {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "COLUMNS": str(console.width),
        }

    def say(self, title: str) -> None:
        """A heading of the story."""
        self.console.print()
        self.console.print(Rule(title, align="left", style="cyan"))

    def run(self, line: str) -> float:
        """Run one command line to its end, show what it printed, return its seconds.

        Ends the demo with status 1 when the command fails.
        """
        self.console.print(Text(f"$ {line}", style="bold"))
        began = time.monotonic()
        done = subprocess.run(
            shlex.split(line),
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        seconds = time.monotonic() - began
        lines = done.stdout.replace(str(ROOT), "~/holdfast").rstrip().splitlines()
        self._show(lines if done.returncode else self._shortened(lines))
        if done.returncode != 0:
            self.console.print(Text(f"ended with status {done.returncode}", style="bold red"))
            raise SystemExit(1)
        return seconds

    def _shortened(self, lines: list[str]) -> list[str]:
        """The start and the end of an output that is too long for a picture."""
        if self.most_lines is None or len(lines) <= self.most_lines:
            return lines
        half = self.most_lines // 2
        left_out = f"… {len(lines) - 2 * half} more lines …"
        return [*lines[:half], left_out, *lines[-half:]]

    def _show(self, lines: list[str]) -> None:
        in_picture = self.most_lines is not None
        for line in lines:
            self.console.print(
                Text.from_ansi(line),
                no_wrap=in_picture,
                overflow="ellipsis" if in_picture else "fold",
                soft_wrap=False,
            )

    def ask(self, *arguments: str) -> Any:
        """The JSON that a command prints, unseen."""
        done = subprocess.run(
            ["holdfast", *arguments, "--profile", PROFILE, "--json"],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=False,
        )
        return json.loads(done.stdout)


def main() -> None:
    """Tell the story once; end with status 1 unless everything came back equal."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--record", type=Path, metavar="SVG", help="write a picture of the session")
    options = parser.parse_args()
    recording = options.record is not None
    console = Console(
        width=WIDTH if recording else None, record=recording, highlight=False, markup=False
    )
    equal = tell(Session(console, most_lines=12 if recording else None))
    if recording:
        picture = console.export_svg(title="make demo")
        # Without rich's web fonts: a picture asks no server for anything.
        options.record.write_text(re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL))
    raise SystemExit(0 if equal else 1)


def tell(session: Session) -> bool:
    """The whole story; whether every source came back equal."""
    prepare()
    before = observe(STACK)
    session.say("A small service: its database, its configuration, its repository")
    for name, seen in before.items():
        session.console.print(f"  {name:8} {seen.summary}")

    session.say("What is declared in backup.yaml")
    session.run(f"holdfast validate --profile {PROFILE}")
    session.say("What a backup would do")
    session.run(f"invoke backup --profile {PROFILE} --dry-run")
    session.say("The backup")
    session.run(f"invoke backup --profile {PROFILE}")
    session.run(f"holdfast list --profile {PROFILE}")
    session.say("Can it be restored? A restore into scratch files, compared with the original")
    session.run(f"holdfast verify --profile {PROFILE} --level restored")

    session.say("The bad day: the database deleted, the configuration scrambled, the code gone")
    wreck(STACK)
    lost = observe(STACK)
    for name, seen in lost.items():
        session.console.print(Text(f"  {name:8} {seen.summary}", style="red"))
    oldest = snapshot_age(session)

    session.say("The recovery")
    took = session.run(f"invoke dr-restore --profile {PROFILE} --confirm quaybot")
    after = observe(STACK)
    session.say("A drill: the same recovery into scratch instances, measured")
    session.run(f"holdfast drill --profile {PROFILE} --report-dir demo/reports")
    session.run(f"holdfast status --profile {PROFILE}")
    return conclude(session, before, lost, after, {"rto": took, "rpo": oldest})


def prepare() -> None:
    """Remove what an earlier demo made, build the stack, and make a key that lies outside it."""
    for name in MADE:
        shutil.rmtree(ROOT / "demo" / name, ignore_errors=True)
    build(STACK)
    import pyrage

    identity = pyrage.x25519.Identity.generate()
    keys = ROOT / "demo" / "keys"
    keys.mkdir(mode=0o700)
    key = keys / "quaybot.key"
    key.touch(mode=0o600)
    key.write_text(f"{identity}\n")
    (keys / "recipient.env").write_text(f"QUAYBOT_RECIPIENT={identity.to_public()}\n")


def snapshot_age(session: Session) -> float:
    """Seconds since the newest snapshot: what the disaster costs in data."""
    newest = session.ask("list")["snapshots"][0]
    taken = datetime.fromisoformat(newest["taken_at"])
    return datetime.now(taken.tzinfo).timestamp() - taken.timestamp()


def conclude(
    session: Session,
    before: dict[str, Observation],
    lost: dict[str, Observation],
    after: dict[str, Observation],
    measured: dict[str, float],
) -> bool:
    """Print what was lost, what came back and how that is known; whether it is all equal."""
    session.say("Lost, and back: compared by the demo itself, not by Holdfast")
    unequal = {name: differences(before[name], after[name]) for name in before}
    table = columns("source", "before", "after the disaster", "after dr-restore", "")
    for name, seen in before.items():
        verdict = Text("DIFFERS", "bold red") if unequal[name] else Text("EQUAL", "bold green")
        table.add_row(name, seen.summary, lost[name].summary, after[name].summary, verdict)
    session.console.print(table)
    for name, how in COMPARED.items():
        session.console.print(Text(f"  {name} compared by {how}", style="dim"))
        for fact in unequal[name]:
            session.console.print(Text(f"  {name}: {fact} differs", style="red"))
    session.console.print()
    rows = [
        ("RTO, the recovery", 600.0, measured["rto"]),
        ("RTO, the drill", 600.0, drill_seconds()),
        ("RPO, age of the snapshot", 26 * 3600.0, measured["rpo"]),
    ]
    objectives = columns("objective", "promised", "measured", "")
    for label, promised, found in rows:
        met = found is not None and found <= promised
        verdict = Text("met", "bold green") if met else Text("missed", "bold red")
        shown = "unknown" if found is None else f"{found:.1f} s"
        objectives.add_row(label, f"{promised:,.0f} s", shown, verdict)
    session.console.print(objectives)
    kept = all(found is not None and found <= promised for _, promised, found in rows)
    return kept and not any(unequal.values())


def columns(*headings: str) -> Table:
    """A plain table."""
    table = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False)
    for heading in headings:
        table.add_column(heading)
    return table


def drill_seconds() -> float | None:
    """The system's RTO as the drill's own report states it; None where it is unknown."""
    (report,) = (ROOT / "demo" / "reports").rglob("*.json")
    measured: float | None = json.loads(report.read_text())["rto"]["system"]["measured"]
    return measured


if __name__ == "__main__":
    main()
