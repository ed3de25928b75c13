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


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("redis://127.0.0.1:{port}/0", "redis://127.0.0.1:{port}/0"),
        ("redis://:hunter2@127.0.0.1:{port}/0", "redis://127.0.0.1:{port}/0"),
        ("unix:///no/such.sock?db=1", "unix:///no/such.sock?db=1"),
    ],
)
def test_a_url_is_shown_without_what_is_secret_in_it(
    tmp_path: Path, silent_port: int, written: str, shown: str
) -> None:
    source = 'type: redis, url: {secret: "env:REDIS_URL"}'
    (tmp_path / "backup.yaml").write_text(SPEC.format(source=source))
    variables = {"REDIS_URL": written.format(port=silent_port)}
    said = Inside(tmp_path, variables)("doctor", status=4).stdout
    assert shown.format(port=silent_port) in said
    assert "hunter2" not in said


def test_all_that_waits_for_a_variable_is_told_at_once(tmp_path: Path) -> None:
    spec = SPEC.format(source='type: sqlite, path: "${DATA}/quay.db"')
    spec += '  usb: {type: local, path: "${USB}/backups"}\n'
    (tmp_path / "backup.yaml").write_text(spec)
    said = Inside(tmp_path)("doctor", status=4).stdout
    assert "${DATA} has no value. Set it in the environment or in an env_file" in said
    assert "${USB} has no value." in said
    assert "ok    target disk" in said


# What docker says of a command line that only its plugin understands, by its version.
WITHOUT_COMPOSE = [
    "unknown shorthand flag: 'T' in -T",
    "docker: 'compose' is not a docker command.",
    "docker: unknown command: docker compose",
]


@pytest.mark.parametrize("words", WITHOUT_COMPOSE)
def test_a_docker_without_compose_is_told_with_what_it_lacks(tmp_path: Path, words: str) -> None:
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\necho "{words}" >&2\nexit 125\n')
    docker.chmod(0o755)
    source = f"type: postgres, exec: {docker} compose exec -T db, dbname: quay, user: quay"
    (tmp_path / "backup.yaml").write_text(SPEC.format(source=source))
    said = Inside(tmp_path)("doctor", status=4).stdout
    assert "docker-compose-plugin" in said
