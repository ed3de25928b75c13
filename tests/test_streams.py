"""Standard streams that the caller closed, and those that take nothing."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.inside import Inside
from tests.service import Service
from tests.tools import clean_environment


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    service = Service(tmp_path_factory.mktemp("streams") / "service").build()
    Inside(service.folder)("backup", status=0)
    return service


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


def snapshots(service: Service) -> set[str]:
    return {one.name for one in (service.folder / "backups" / "quaybot" / "default").glob("2*")}


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_a_backup_needs_none_of_them(service: Service, closed: str) -> None:
    before = snapshots(service)
    done = bash(service, f"holdfast backup {closed}")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert len(snapshots(service) - before) == 1
    Inside(service.folder)("verify", "--level", "restored", status=0)


def test_nobody_can_say_yes_on_a_closed_one(service: Service) -> None:
    done = bash(service, "holdfast restore --source db <&-")
    assert done.returncode == 7
    assert "Give --confirm db" in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_encoding_that_lacks_a_letter_is_no_error(service: Service, encoding: str) -> None:
    name = "grünes Licht für 3 €"
    spec = service.folder / f"{name}.yaml"
    spec.write_text((service.folder / "backup.yaml").read_text())
    line = f"PYTHONIOENCODING={encoding} holdfast validate --file '{spec}'"
    done = bash(service, f"{line} | iconv -f latin1 -t utf-8; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "f\\xfcr 3 \\u20ac" in done.stdout or "für 3 \\u20ac" in done.stdout
    document = json.loads(bash(service, f"{line} --json").stdout)  # UTF-8, as JSON is
    assert name in document["warnings"][0]["file"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has /dev/full")  # noqa: PTH110
class TestFull:
    @pytest.mark.parametrize("more", ["", "--json"])
    def test_an_answer_that_nobody_gets_is_a_failure(self, service: Service, more: str) -> None:
        before = snapshots(service)
        done = bash(service, f"holdfast backup {more} > /dev/full")
        assert done.returncode == 4
        last = done.stderr.splitlines()[-1]
        assert last == "Error: Standard output takes nothing: No space left on device."
        assert len(snapshots(service) - before) == 1

    def test_where_nothing_is_to_be_said_nothing_is_lost(self, service: Service) -> None:
        assert bash(service, "holdfast verify --quiet > /dev/full").returncode == 0

    def test_progress_may_be_lost(self, service: Service) -> None:
        done = bash(service, "holdfast backup 2> /dev/full")
        assert done.returncode == 0
        assert "Backup done" in done.stdout
