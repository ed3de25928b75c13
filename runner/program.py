"""Invoke's program, with the manners of this one: how it reads a command line."""

from __future__ import annotations

import contextlib
import gc
import inspect
import os
import re
import sys
from collections.abc import Iterator, Mapping

from runner import __version__
from runner.commands import namespace
from runner.errors import UsageError
from runner.face import refuse
from runner.light import Argument, Config, ParseError, Program

_OVERVIEW = """\
Usage: holdfast COMMAND [options]
       holdfast COMMAND --help

The first day: init, validate, backup, drill, status. The bad day: dr-restore.
"""


class Settings(Config):
    """Invoke's settings; one file of them that this user may not read is as good as none."""

    def load_user(self, merge: bool = True) -> None:
        """Read the user's own settings, if they can be read. Raises UsageError for broken ones."""
        try:
            super().load_user(merge=merge)
        except PermissionError:
            return
        except Exception as error:  # whatever a file of Python or a reader of YAML raises
            why = " ".join(f"{type(error).__name__} {error}".split())
            raise UsageError(
                f"The settings of Invoke in your home folder are broken: {why}.",
                remedy="Mend or remove ~/.invoke.yaml, .yml, .json, .py.",
            ) from error


class Commands(Program):
    """Invoke's program; what it cannot parse is told as every other error is."""

    _about = ("--help", "--list", "--version")

    def normalize_argv(self, argv: list[str] | None) -> None:
        """Take `help COMMAND` for `--help COMMAND`, as many programs do."""
        super().normalize_argv(argv)
        if self.argv[1:2] == ["help"]:
            self.argv = [self.argv[0], "--help", *self.argv[2:]]

    def parse_core(self, argv: list[str] | None) -> None:
        """Parse Invoke's own flags."""
        with self._telling(argv or []):
            super().parse_core(argv)

    def parse_tasks(self) -> None:
        """Parse the command and its flags."""
        with self._telling(self.argv):
            super().parse_tasks()

    def parse_cleanup(self) -> None:
        """Do what Invoke's own flags ask for."""
        with self._telling(self.argv):
            super().parse_cleanup()

    def print_help(self) -> None:
        """Say how to begin. Invoke's own flags are for those who write tasks."""
        print(_OVERVIEW)
        self.list_tasks()

    def task_list_opener(self, extra: str = "") -> str:  # noqa: ARG002
        """What stands above the list."""
        return "Commands"

    def print_task_help(self, name: str) -> None:
        """Print what a command does, and its options as the reference writes them."""
        task = self.collection[name]
        print(f"Usage: holdfast {name} [options]\n\n{inspect.getdoc(task)}\n\nOptions:\n")
        options = sorted(self.parser.contexts[name].args.values(), key=lambda one: str(one.name))
        self.print_columns([(_typed(one), one.help) for one in dict.fromkeys(options)])

    @contextlib.contextmanager
    def _telling(self, argv: list[str]) -> Iterator[None]:
        try:
            yield
        except ParseError as error:
            raise refuse(self._usage_error(str(error), argv), argv) from error

    def _usage_error(self, words: str, argv: list[str]) -> UsageError:
        lacks_value = re.search(r"<Argument: ([\w-]+)", words)
        if lacks_value:
            return UsageError(f"--{lacks_value[1]} has no value.")
        unknown = re.fullmatch(r"No idea what '(.*)' is!", words, re.DOTALL)
        if unknown is None:
            return UsageError(words)
        return UsageError(
            f"There is no `{unknown[1]}` here.{self._hint(unknown[1], argv)}",
            remedy="`holdfast --list` shows the commands, `holdfast COMMAND --help` its flags.",
        )

    def _hint(self, word: str, argv: list[str]) -> str:
        from runner.spec.marks import nearest

        assert self.namespace is not None
        flags: dict[str | None, Mapping[str, Argument]] = {
            one.name: one.flags for one in self.namespace.to_contexts()
        }
        named = next((one for one in argv[1:] if one in flags), None)
        if named is None:
            return nearest(word, [*filter(None, flags), *self._about])
        if word in flags[named]:
            return f" It stands after `{named}`."
        if word.startswith("-"):
            return nearest(word, flags[named]) if word.startswith("--") else ""
        wanted = ("--snapshot", "--source") if word[:1].isdigit() else ("--source", "--snapshot")
        flag = next((one for one in wanted if one in flags[named]), None)
        if flag not in argv:
            return f" Did you mean `holdfast {named} {flag} {word}`?" if flag else ""
        several = flags[named][flag].kind is list
        return f" Repeat {flag}, or separate by commas." if several else f" {flag} takes one."


def _typed(option: Argument) -> str:
    """An option as it is typed, with a word for its value."""
    name = str(option.name).strip("_").replace("_", "-")
    return f"--{name}" if option.kind is bool else f"--{name} {name.replace('-', '_').upper()}"


def run(arguments: list[str]) -> None:
    """Carry out one command line; leaves with its exit code."""
    program = Commands(
        name="holdfast",
        binary="holdfast",
        namespace=namespace,
        version=__version__,
        config_class=Settings,
    )
    try:
        program.run(arguments if len(arguments) > 1 else [*arguments, "--help"])
    except BrokenPipeError:  # whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        sys.exit(refuse(end.__context__, arguments).code)  # Invoke left with 1
    except Exception as error:
        if os.environ.get("HOLDFAST_DEBUG"):
            raise
        sys.exit(refuse(error, arguments).code)
    finally:
        # To look for garbage among all that goes anyhow is a tenth of the time of short commands.
        gc.freeze()
