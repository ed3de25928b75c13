"""What tests share: the program as a subprocess, and programs that a test needs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent
REQUIRE = "HOLDFAST_TESTS_REQUIRE_SERVICES"

# The programs that tests run, and the Debian package of each.
PROGRAMS = {
    "age": "age",
    "ceph-mon": "ceph-mon",
    "ceph-osd": "ceph-osd",
    "getfattr": "attr",
    "git": "git",
    "gzip": "gzip",
    "node": "nodejs",
    "openssl": "openssl",
    "pgbouncer": "pgbouncer",
    "psql": "postgresql",
    "radosgw": "radosgw",
    "redis-cli": "redis-tools",
    "redis-server": "redis-server",
    "setfacl": "acl",
    "sqlite3": "sqlite3",
    "ssh-keygen": "openssh-client",
    "sshd": "openssh-server",
    "tar": "tar",
    "unshare": "util-linux",
    "zstd": "zstd",
}


def missing_programs() -> dict[str, str]:
    """The programs that are not on this machine, and how to get each."""
    return {name: package for name, package in PROGRAMS.items() if find_program(name) is None}


def find_program(name: str) -> str | None:
    """Where a program is, also one that only administrators have in their path."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def require_program(name: str, package: str = "") -> str:
    """The path of a program. Without it the test is skipped, saying how to install it; with
    `--require-services` it fails.
    """
    path = find_program(name)
    if path is None:
        cannot_run(f"{name} is missing: apt-get install {package or PROGRAMS.get(name, name)}")
    return path


def cannot_run(why: str) -> NoReturn:
    """Skip a test that this machine cannot run; with `--require-services` it fails."""
    if os.environ.get(REQUIRE):
        pytest.fail(why, pytrace=False)
    pytest.skip(why, allow_module_level=True)


def blocks(text: str, fence: str = "sh") -> list[str]:
    """The blocks of a Markdown text that are fenced as exactly `fence`."""
    return re.findall(rf"^```{fence}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Answer:
    """How one command ended."""

    command: tuple[str, ...]
    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """What was printed on standard output; fails the test where that is not one object."""
        try:
            return json.loads(self.stdout)
        except ValueError:
            pytest.fail(f"not JSON:\n{self}", pytrace=False)

    def __str__(self) -> str:
        return (
            f"$ {' '.join(self.command)}\nstatus {self.status}\n"
            f"--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"
        )


def clean_environment(home: Path, **more: str) -> dict[str, str]:
    """An environment with nothing of the caller's but where programs are."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "Test",
        "GIT_AUTHOR_EMAIL": "test@example.org",
        "GIT_COMMITTER_NAME": "Test",
        "GIT_COMMITTER_EMAIL": "test@example.org",
        "NO_COLOR": "1",
    } | more


@dataclass(frozen=True)
class Program:
    """The installed program, started in one folder with a clean environment."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)  # added to the clean one

    @property
    def arguments(self) -> list[str]:
        """The start of every command line; the folder does not become an import path."""
        return [sys.executable, "-P", "-m", "runner"]

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start a command and return at once, in a process group of its own."""
        return subprocess.Popen(
            [*self.arguments, *map(str, arguments)],
            cwd=self.folder,
            env=clean_environment(self.folder, **self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __call__(self, *arguments: str | Path, status: int | None = None) -> Answer:
        """Run a command to its end. With `status`, fail the test unless it ends with that."""
        with self.start(*arguments) as process:
            stdout, stderr = process.communicate()
        command = ("holdfast", *map(str, arguments))
        answer = Answer(command, process.returncode, stdout, stderr)
        if status is not None and answer.status != status:
            pytest.fail(f"expected status {status}\n{answer}", pytrace=False)
        return answer

    def json(self, *arguments: str | Path, status: int = 0) -> Any:
        """Run a command with `--json`, expect `status`, and return the object it prints."""
        return self(*arguments, "--json", status=status).json


def run(
    *arguments: str | Path, folder: Path, stdin: str | None = None, check: bool = True
) -> Answer:
    """Run any other program in `folder` with a clean environment; its status must be 0."""
    done = subprocess.run(
        [str(one) for one in arguments],
        cwd=folder,
        env=clean_environment(folder),
        input="" if stdin is None else stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    answer = Answer(tuple(map(str, arguments)), done.returncode, done.stdout, done.stderr)
    if check and answer.status != 0:
        pytest.fail(str(answer), pytrace=False)
    return answer
