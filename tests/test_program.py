"""The program around the commands: what a Ctrl-C meets before a command begins."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runner.light import Program
from tests.inside import Inside
from tests.service import Service
from tests.tools import clean_environment

# Runs the program; importing that module is what Ctrl-C comes upon.
INTERRUPTED = """
import sys
from importlib.abc import MetaPathFinder

class Finger(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            raise KeyboardInterrupt
        return None

sys.meta_path.insert(0, Finger())
sys.argv = ["holdfast", *{words!r}]
from runner.__main__ import main
main()
"""


def interrupted(folder: Path, module: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(module=module, words=words)],
        cwd=folder,
        env=clean_environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "module",
    [
        "runner.program",
        "yaml.tokens",
        "runner.commands.keeping",
        "runner.prepare",  # of a module that is imported when it is first used
    ],
)
def test_ctrl_c_while_the_program_is_loaded_is_told_as_any_other(
    tmp_path: Path, module: str
) -> None:
    Service(tmp_path)
    done = interrupted(tmp_path, module, "backup")
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "Error: Interrupted before anything was begun.\n"
    done = interrupted(tmp_path, module, "backup", "--json")
    assert (done.returncode, done.stderr) == (130, "")
    assert json.loads(done.stdout)["error"]["kind"] == "interrupted"


@pytest.mark.parametrize("moment", ["parse_core", "parse_tasks"])
def test_ctrl_c_while_the_line_is_read_is_told_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Program, moment, stop)
    document = Inside(tmp_path).json("backup", status=130)
    assert document["ok"] is False
    assert document["error"]["kind"] == "interrupted"


LOADED = """
import sys
from runner.program import run
try:
    run(sys.argv)
finally:
    print(*sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("words", "spared"),
    [
        (("--version",), {"runner.spec.load", "runner.store.catalog", "runner.plan.model"}),
        (("validate",), {"runner.execute.session", "runner.prepare", "rich"}),
        (("list",), {"runner.execute.driver", "runner.prepare", "runner.source", "rich"}),
    ],
)
def test_a_command_imports_nothing_that_others_need(
    tmp_path: Path, words: tuple[str, ...], spared: set[str]
) -> None:
    Service(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *words],
        cwd=tmp_path,
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = set(done.stderr.split())
    assert "runner.commands.keeping" in loaded
    assert spared & loaded == set()
