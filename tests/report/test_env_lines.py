"""What a runbook reads from an env file is what the program reads from it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from runner.report.env_lines import READER, load_lines
from runner.spec.expand import read_env_file

ODD = r"""
# a comment
PLAIN=abc
export EXPORTED = spaced   # said aside
PASSWORD=se:c"r\e%t$HOME`touch ran`'#x
WORDS=two words
EMPTY=
LITERAL='$HOME "and" \n' # aside
ESCAPED="a\tb\n\"c\" $HOME `touch ran` it's \\ \$"
LONG="-----BEGIN
two 'lines'
END-----"
ALSO='one

three'
FOLDED="one \
two"
UMLAUT=grün
LAST=1
"""


def read_by_bash(folder: Path, files: list[Path], **environment: str) -> dict[str, str]:
    """The environment after the files were read."""
    lines = ["set -eu", *READER, *load_lines(files), "env -0"]
    done = subprocess.run(
        ["bash", "-e"], input="\n".join(lines), cwd=folder, capture_output=True, text=True,
        env={"PATH": os.environ["PATH"]} | environment, check=True,
    )  # fmt: skip
    return dict(one.split("=", 1) for one in done.stdout.split("\0") if one)


def test_odd_values_are_read_as_the_program_reads_them(tmp_path: Path) -> None:
    for text in (ODD, ODD.replace("\n", "\r\n")):
        file = tmp_path / ".env"
        file.write_text(text, newline="")
        wanted, problems = read_env_file(file)
        assert not problems
        assert wanted["PASSWORD"] == r"""se:c"r\e%t$HOME`touch ran`'#x"""
        assert read_by_bash(tmp_path, [file]).items() >= wanted.items()
    assert not (tmp_path / "ran").exists()


def test_a_later_file_wins_and_the_environment_over_both(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "it's second"
    first.write_text("A=1\nB=1\nC=1\n")
    second.write_text("B=2\nC=2\n")
    found = read_by_bash(tmp_path, [first, second, tmp_path / "missing"], C="3")
    assert (found["A"], found["B"], found["C"]) == ("1", "2", "3")
