"""The program around the commands: what a Ctrl-C meets before a command begins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner import errors, face
from runner.errors import refused
from runner.lazily import POSTPONED
from runner.light import Program
from tests.inside import Inside
from tests.service import Service
from tests.tools import Program as Installed
from tests.tools import clean_environment

# Runs the program; importing that module is what Ctrl-C, or another error, comes upon.
STOPPED = """
import sys
from importlib.abc import MetaPathFinder

class Finger(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            raise {error}
        return None

sys.meta_path.insert(0, Finger())
sys.argv = ["holdfast", *{words!r}]
from runner.__main__ import main
main()
"""


def stopped(
    folder: Path, module: str, *words: str, error: str = "KeyboardInterrupt"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", STOPPED.format(module=module, words=words, error=error)],
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
        "runner.lazily",
        "yaml.tokens",
        "runner.commands.keeping",
        "runner.prepare",  # of a module that is imported when it is first used
    ],
)
def test_ctrl_c_while_the_program_is_loaded_is_told_as_any_other(
    tmp_path: Path, module: str
) -> None:
    Service(tmp_path)
    done = stopped(tmp_path, module, "backup")
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "Error: Interrupted before anything was begun.\n"
    done = stopped(tmp_path, module, "backup", "--json")
    assert (done.returncode, done.stderr) == (130, "")
    assert json.loads(done.stdout)["error"]["kind"] == "interrupted"


@pytest.mark.parametrize("error", [r"""ImportError('No "yaml"\nhere')""", "MemoryError"])
def test_a_program_that_cannot_be_loaded_says_so_in_one_line(tmp_path: Path, error: str) -> None:
    done = stopped(tmp_path, "yaml.tokens", "list", error=error)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("Error: Holdfast cannot be loaded: ")
    assert done.stderr.count("\n") == 1
    done = stopped(tmp_path, "yaml.tokens", "list", "--json", error=error)
    assert (done.returncode, done.stderr) == (4, "")
    assert json.loads(done.stdout)["error"]["kind"] == "failed"


def test_a_library_that_does_not_fit_into_memory_is_told_as_such(tmp_path: Path) -> None:
    Service(tmp_path)
    error = "ImportError('libsqlite3.so.0: failed to map segment from shared object')"
    done = stopped(tmp_path, "runner.prepare", "backup", error=error)
    assert done.returncode == 4
    assert done.stderr.startswith("Error: There was not enough memory. ")


@pytest.mark.parametrize(
    "moment", ["create_config", "parse_core", "parse_tasks", "update_config", "execute"]
)
def test_ctrl_c_while_the_line_is_read_is_told_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Program, moment, stop)
    document = Inside(tmp_path).json("backup", status=130)
    assert document["ok"] is False
    assert document["error"]["kind"] == "interrupted"


def test_ctrl_c_while_the_outcome_is_told_does_not_say_that_nothing_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    Service(tmp_path)
    monkeypatch.setattr(face, "print_outcome", stop)
    answer = Inside(tmp_path)("list", status=130)
    assert answer.stderr.startswith("Error: Interrupted while the outcome was told")


@pytest.mark.parametrize("line", ["", "help", "--help", "-h"])
def test_whoever_types_nothing_is_told_how_to_begin(tmp_path: Path, line: str) -> None:
    text = Inside(tmp_path)(*line.split(), status=0).stdout
    assert text.startswith("Usage: holdfast COMMAND [options]\n")
    assert "The first day: init, validate, backup, drill, status." in text
    assert "\n  dr-restore   Recover the whole system" in text
    assert "--prompt-for-sudo-password" not in text  # Invoke's, which no command heeds


def test_help_for_what_no_command_is_names_the_nearest(tmp_path: Path) -> None:
    answer = Inside(tmp_path)("help", "restor", status=1)
    assert answer.stderr.startswith("Error: There is no `restor` here. Did you mean `restore`?")


@pytest.mark.parametrize("line", ["help restore", "restore --help"])
def test_the_help_of_a_command_names_what_each_option_takes(tmp_path: Path, line: str) -> None:
    # In a process of its own: Invoke can tell the help of an option once only.
    text = Installed(tmp_path)(*line.split(), status=0).stdout
    assert text.startswith("Usage: holdfast restore [options]\n\nBring one source back")
    for option in ("--dry-run  ", "--from FROM  ", "--include INCLUDE  "):
        assert text.count(option) == 1


@pytest.mark.parametrize(
    ("name", "content"), [("yaml", "run: ["), ("py", "import nowhere"), ("json", "{")]
)
def test_broken_settings_of_invoke_are_told(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / f".invoke.{name}").write_text(content)
    answer = Inside(tmp_path)("list", status=1)
    assert answer.stderr.startswith("Error: The settings of Invoke in your home folder are broken")
    assert answer.stderr.count("\n") == 1


def test_a_setting_of_invoke_that_names_nothing_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / ".invoke.yaml").write_text("tasks: {executor_class: nowhere.Executor}")
    answer = Inside(tmp_path)("list", status=1)
    assert "nowhere" in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_what_another_user_left_is_told_with_how_to_hand_it_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = PermissionError(13, "Permission denied", "/no-such-folder/journal.jsonl")
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert refused(error).remedy == "It belongs to root, and this is 54321."
    # Root's file in a folder of this user.
    monkeypatch.setattr(errors, "_owners_of", lambda _path: [0, 54321, 0])
    told = refused(error).remedy
    assert told.startswith("It belongs to root, and this is 54321: let one user alone run")
    assert "sudo chown -R 54321 on the state folder" in told
    assert refused(OSError(28, "No space left", "/")).remedy == "See permissions and free space."


def test_a_working_folder_that_was_removed_is_told(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    words = ["-c", 'rmdir "$PWD"; exec "$@"', "sh", sys.executable, "-P", "-m", "runner", "list"]
    done = subprocess.run(
        ["sh", *words],
        cwd=gone,
        env=clean_environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: The working folder does not exist any more. ")


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


@pytest.fixture(scope="module")
def quiet_service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """A service with a snapshot."""
    service = Service(tmp_path_factory.mktemp("service")).build()
    service.program("backup", status=0)
    return service


# Says of each module whether the main thread loaded it.
THREADS = """
import sys
import threading
from importlib.machinery import SourceFileLoader

load = SourceFileLoader.exec_module

def watched(self, module):
    main = threading.current_thread() is threading.main_thread()
    load(self, module)
    sys.stderr.write(f"{object.__getattribute__(module, '__name__')} {main}\\n")

SourceFileLoader.exec_module = watched
from runner.program import run
run(sys.argv)
"""


@pytest.mark.parametrize("words", [("backup",), ("dr-restore", "--confirm", "quaybot"), ("drill",)])
def test_what_is_postponed_is_never_first_used_by_a_thread(
    quiet_service: Service, words: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", THREADS, *words],
        cwd=quiet_service.folder,
        env=clean_environment(quiet_service.folder),
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = dict(line.split() for line in done.stderr.splitlines() if line.startswith("runner."))
    assert {name: loaded[name] for name in POSTPONED} == dict.fromkeys(POSTPONED, "True")
