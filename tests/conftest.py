"""Options and fixtures of all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from runner.secret import SCRUBBER
from tests.tools import REQUIRE, Program, missing_programs

pytest_plugins = [
    "tests.ceph_server",
    "tests.azurite_server",
    "tests.postgres_server",
    "tests.redis_server",
    "tests.s3_server",
    "tests.rclone_server",
    "tests.sftp_server",
]

# On a machine that is busy an example takes as long as it takes.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-services",
        action="store_true",
        help="fail, rather than skip, the tests whose programs or servers are not installed",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("require_services"):
        os.environ[REQUIRE] = "1"
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As for whatever a shell starts in the background; tests interrupt what they start.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> list[str]:
    return _advice()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in _advice():
        terminalreporter.write_line(line, yellow=True)


def _advice() -> list[str]:
    missing = missing_programs()
    if not missing:
        return []
    packages = " ".join(sorted(set(missing.values())))
    return [
        f"Not installed, so tests that need them are skipped: {', '.join(missing)}",
        f"To run them too: apt-get install --no-install-recommends {packages}",
    ]


@pytest.fixture
def holdfast(tmp_path: Path) -> Callable[..., Program]:
    """Makes a runner: `holdfast(folder, NAME="value")("backup", status=0)`.

    The default folder is the test's own.
    """

    def program(folder: Path = tmp_path, **environment: str) -> Program:
        return Program(folder, environment)

    return program


@pytest.fixture(autouse=True)
def _no_secret_of_another_test() -> Iterator[None]:
    """What one test revealed would be hidden in what the next one prints.

    The fixture `monkeypatch` would be taken up first by this, and so undone last: a test's
    variables would still be set while its servers' fixtures tidy up.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SCRUBBER, "_values", set())
        yield
