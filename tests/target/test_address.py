"""Targets by their address, as they are typed where there is no spec."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import UsageError
from runner.target.address import is_address, target_at

HERE = Path("/here")


@pytest.mark.parametrize(
    ("address", "kind", "options"),
    [
        ("/mnt/usb", "local", {"path": "/mnt/usb"}),
        ("./usb", "local", {"path": "/here/usb"}),
        ("file:///mnt/a%20b", "local", {"path": "/mnt/a b"}),
        ("file:///mnt/usb#1", "local", {"path": "/mnt/usb#1"}),
        (
            "s3://box/a/b?region=eu-1&timeout=5s",
            "s3",
            {"bucket": "box", "prefix": "a/b", "region": "eu-1", "timeout": 5.0},
        ),
        (
            "sftp://me@nas:2222/~/copies?jump=you@gate:22",
            "sftp",
            {"host": "nas", "port": 2222, "user": "me", "path": "copies"},
        ),
        ("sftp://me@nas/~", "sftp", {"path": "~/"}),
        ("sftp://me@nas/~/", "sftp", {"path": "~/"}),
        ("sftp://me@nas", "sftp", {"path": "/"}),
        ("sftp://me%2Bcopies@nas/x", "sftp", {"host": "nas", "user": "me+copies"}),
        ("sftp://nas/srv/copies", "sftp", {"host": "nas", "port": 22, "path": "/srv/copies"}),
        ("azure://box-1/a?account=quay", "azure", {"container": "box-1", "account": "quay"}),
        ("az://box-1/a?account=quay", "azure", {"container": "box-1", "account": "quay"}),
        ("gcs://box/a", "gcs", {"bucket": "box", "prefix": "a"}),
        ("gs://box/a%20b/c/", "gcs", {"bucket": "box", "prefix": "a b/c"}),
        ("rclone://drive:a/b", "rclone", {"remote": "drive:a/b"}),
    ],
)
def test_says_type_and_options(address: str, kind: str, options: dict[str, object]) -> None:
    assert is_address(address)
    target = target_at(address, HERE)
    assert target.type == kind
    assert {name: target.options[name] for name in options} == options
    assert "?" not in target.name


def test_a_secret_is_a_reference() -> None:
    target = target_at("s3://box/a?access_key=env:A&secret_key=file:b", HERE)
    assert str(target.options["access_key"]) == "secret env:A"
    assert target.options["secret_key"].file == HERE / "b"
    odd = target_at("s3://box/a?access_key=file:/a%2bb&secret_key=file:/c+%20d", HERE)
    assert odd.options["access_key"].file == Path("/a+b")
    assert odd.options["secret_key"].file == Path("/c+ d")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ftp://nas/x", "no kind of address"),
        ("s3://box/x?regoin=a", "Did you mean `region`"),
        ("s3://box/x?timeout=soon", "timeout"),
        ("s3://box/x?access_key=AKIA&secret_key=env:B", "`access_key` is given by reference"),
        ("sftp://nas:port/x", "no server"),
        ("sftp://me:pass@nas/x", "a password stands in the address"),
        ("file://nas/x", "names another machine"),
    ],
)
def test_a_mistake_is_explained(address: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        target_at(address, HERE)
    assert words in caught.value.message
    assert "pass@" not in caught.value.message


def test_a_name_is_no_address() -> None:
    assert not is_address("offsite")
    assert not is_address("")
