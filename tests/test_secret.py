"""Secrets: found late, never shown."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner import secret
from runner.errors import UsageError
from runner.secret import HIDDEN, SCRUBBER, SHORTEST_SCRUBBED, Scrubber, Secret


def test_a_secret_is_read_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text("from a file\r\n")
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials/db").write_text("from systemd\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    monkeypatch.setenv("DB_PASSWORD", "from the environment")
    monkeypatch.setenv("HOME", str(tmp_path))
    found = {
        reference: Secret(reference, tmp_path).reveal()
        for reference in (
            "env:DB_PASSWORD",
            "file:password",
            "file:~/password",
            f"file:{tmp_path}/password",
            "credential:db",
            "command:echo from; echo 'a command'",
            "command:cat password",
        )
    }
    assert list(found.values()) == [
        "from the environment",
        "from a file",
        "from a file",
        "from a file",
        "from systemd",
        "from\na command",
        "from a file",
    ]


def test_the_environment_of_the_spec_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "outside")
    declared = {"TOKEN": "inside", "PATH": "/usr/bin:/bin"}
    assert Secret("env:TOKEN", environment=declared).reveal() == "inside"
    assert Secret('command:echo "$TOKEN"', environment=declared).reveal() == "inside"


def test_inner_and_leading_space_is_part_of_it(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("  two words \n")
    assert Secret("file:password", tmp_path).reveal() == "  two words "


def test_what_comes_by_a_pipe_is_there_again() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"once")
    os.close(writing)
    try:
        found = [Secret(f"file:/dev/fd/{reading}").reveal() for _ in range(2)]
    finally:
        os.close(reading)
    assert found == ["once", "once"]


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("env:NOT_SET", "env:NOT_SET is not set"),
        ("env:EMPTY", "env:EMPTY is empty"),
        ("file:missing", "file:missing cannot be read"),
        ("file:.", "file:. cannot be read"),
        ("file:binary", "file:binary cannot be read"),
        ("file:locked", "file:locked is itself encrypted"),
        ("command:exit 3", "failed with status 3"),
        ("command:echo sorry >&2; false", "sorry"),
        ("command:cat missing | cat", "failed with status 1"),
        ("command:true", "is empty"),
        ("credential:missing", "credential:missing cannot be read"),
    ],
)
def test_a_secret_that_cannot_be_had_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str, words: str
) -> None:
    monkeypatch.setenv("EMPTY", "\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "locked").write_bytes(b"age-encryption.org/v1\n-> scrypt\n\xff\xfe\x00")
    with pytest.raises(UsageError, match=words) as caught:
        Secret(reference, tmp_path).reveal()
    assert caught.value.remedy


def test_a_credential_needs_its_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(UsageError, match="LoadCredential"):
        Secret("credential:db").reveal()


def test_a_command_that_hangs_is_ended_with_all_it_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(secret, "COMMAND_SECONDS", 0.2)
    began = time.monotonic()
    with pytest.raises(UsageError, match="took longer than"):
        Secret("command:sleep 30 & sleep 30").reveal()
    assert time.monotonic() - began < 20


def test_a_secret_shows_its_reference_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_PASSWORD", "correct horse")
    one = Secret("env:DB_PASSWORD", environment={"DB_PASSWORD": "correct horse"})
    one.reveal()
    assert "correct horse" not in f"{one} {one!r}"
    assert str(one) == "secret env:DB_PASSWORD"
    assert SCRUBBER.clean("password=correct horse!") == f"password={HIDDEN}!"


def test_the_file_of_a_secret_is_known(tmp_path: Path) -> None:
    assert Secret("file:key.txt", tmp_path).file == tmp_path / "key.txt"
    assert Secret("file:/keys/key.txt", tmp_path).file == Path("/keys/key.txt")
    assert Secret("env:KEY", tmp_path).file is None


def test_every_line_of_a_key_is_scrubbed() -> None:
    scrubber = Scrubber()
    scrubber.learn("-----BEGIN KEY-----\nQUJDREVG\nR0hJSktM\n-----END KEY-----\n")
    assert scrubber.clean("found R0hJSktM there") == f"found {HIDDEN} there"


def test_the_longer_of_two_secrets_goes_first() -> None:
    scrubber = Scrubber()
    scrubber.learn("swordfish")
    scrubber.learn("swordfish-2026")
    assert scrubber.clean("it is swordfish-2026") == f"it is {HIDDEN}"


@given(st.lists(st.text(min_size=1), max_size=4), st.text())
def test_no_secret_is_left_in_clean_text(values: list[str], around: str) -> None:
    scrubber = Scrubber()
    for value in values:
        scrubber.learn(value)
    text = around + around.join(values)
    cleaned = scrubber.clean(text).replace(HIDDEN, "\0")
    for value in values:
        word = value.strip()
        if len(word) >= SHORTEST_SCRUBBED and "\0" not in word:
            assert word not in cleaned
