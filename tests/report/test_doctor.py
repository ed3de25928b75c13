"""What `doctor` says of this machine and of what the spec names."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.inside import Inside

SPEC = """\
version: 1
project: quaybot
sources:
  down: {{{source}}}
targets:
  disk: {{type: local, path: backups}}
"""


@pytest.fixture
def silent_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


@pytest.mark.parametrize(
    "source",
    [
        'type: redis, url: "redis://127.0.0.1:{port}/0"',
        "type: postgres, host: 127.0.0.1, port: {port}, dbname: quay, user: quay",
    ],
)
def test_a_server_that_is_down_is_not_called_empty(
    tmp_path: Path, silent_port: int, source: str
) -> None:
    (tmp_path / "backup.yaml").write_text(SPEC.format(source=source.format(port=silent_port)))
    said = Inside(tmp_path)("doctor", status=4).stdout
    assert "its server cannot be asked" in said
    assert "nothing to back up" not in said
