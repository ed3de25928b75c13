"""Standard streams that the caller closed, and those that take nothing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.service import Service
from tests.tools import clean_environment


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path / "service").build()


def bash(service: Service, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash in which `holdfast` is the program."""
    program = " ".join(service.program.arguments)
    return subprocess.run(
        ["bash", "-c", f'holdfast() {{ {program} "$@"; }}; {line}'],
        cwd=service.folder,
        env=clean_environment(service.folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def snapshots(service: Service) -> int:
    return len(list((service.folder / "backups" / "quaybot" / "default").glob("2*")))


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_backup_needs_none_of_them(service: Service, closed: str) -> None:
    done = bash(service, f"holdfast backup {closed}")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert snapshots(service) == 1
    assert bash(service, "holdfast verify --level restored").returncode == 0


def test_nobody_can_say_yes_on_a_closed_one(service: Service) -> None:
    bash(service, "holdfast backup")
    done = bash(service, "holdfast restore --source db <&-")
    assert done.returncode == 7
    assert "Give --confirm db" in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has /dev/full")  # noqa: PTH110
class TestFull:
    @pytest.mark.parametrize("more", ["", "--json"])
    def test_an_answer_that_nobody_gets_is_a_failure(self, service: Service, more: str) -> None:
        done = bash(service, f"holdfast backup {more} > /dev/full")
        assert done.returncode == 4
        last = done.stderr.splitlines()[-1]
        assert last == "Error: Standard output takes nothing: No space left on device."
        assert snapshots(service) == 1

    def test_where_nothing_is_to_be_said_nothing_is_lost(self, service: Service) -> None:
        assert bash(service, "holdfast backup --quiet > /dev/full").returncode == 0

    def test_progress_may_be_lost(self, service: Service) -> None:
        done = bash(service, "holdfast backup 2> /dev/full")
        assert done.returncode == 0
        assert "Backup done" in done.stdout
