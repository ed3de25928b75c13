"""What every object store must do when the network fails, and how its errors read.

A target's test module gives `opened` and `behind`, and inherits the rest:

class TestFaults(ObjectStoreFaults):
    def behind(self, wire): ...
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.errors import StepFailed
from runner.secret import Secret
from runner.target import Target, paging
from tests.s3_server import require_rclone
from tests.target.conformance import read
from tests.wire import Wire

MIB = 1024 * 1024


def tools_path() -> str:
    """Where programs are, with the one that fetches from object stores."""
    return f"{Path(require_rclone()).parent}:{os.environ['PATH']}"


def secret(folder: Path, value: str) -> Secret:
    """A secret of that value."""
    file = folder / f"secret-{os.urandom(4).hex()}"
    file.write_text(value)
    return Secret(f"file:{file}")


def refusal(status: str, code: str = "") -> bytes:
    """A server's answer that says no more than that."""
    body = f"<Error><Code>{code}</Code></Error>".encode() if code else b""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def fails_in_words(
    target: Target, reason: str, remedy: str, *attempts: Callable[[], object], hidden: str
) -> None:
    """Whatever is tried says why it failed and what to do, names the target, and hides the key."""
    usual: list[Callable[[], object]] = [
        target.check,
        lambda: target.put("shop/a", [b"x"]),
        lambda: list(target.entries("")),
        lambda: read(target, "shop/a"),
        lambda: target.folders(""),
    ]
    for attempt in [*usual, *attempts]:
        with pytest.raises(StepFailed, match=reason) as caught:
            attempt()
        assert "offsite" in caught.value.message
        assert remedy in caught.value.remedy
        assert "Debug" not in str(caught.value)
        assert hidden not in str(caught.value)


def dying(end: Callable[[], None], before: int) -> Iterator[bytes]:
    """A stream of mebibytes, `before` of which come while the server lives; `end` kills it."""
    for _ in range(before):
        yield b"x" * MIB
    end()
    for _ in range(12):
        yield b"x" * MIB


class ObjectStoreFaults(ABC):
    """What is repeated, what goes on, and what must not."""

    # One page of a list of which there are more, always with the same word for the next.
    page = (
        "<ListBucketResult><IsTruncated>true</IsTruncated>"
        "<NextContinuationToken>next</NextContinuationToken>"
        "<Contents><Key>some/where/shop/a</Key><Size>1</Size><ETag>1</ETag>"
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        "<Contents><Key>some/where/shop/b</Key><Size>1</Size><ETag>1</ETag>"
        "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
        "</ListBucketResult>"
    )

    @abstractmethod
    def behind(self, wire: Wire) -> str:
        """The endpoint of the server behind that wire."""

    @pytest.fixture
    def wired(self, opened: Callable[..., Any], wire: Wire) -> Any:
        """A target whose server is behind the wire."""
        return opened(endpoint=self.behind(wire), retry=30.0, part_size=5 * MIB)

    def test_a_download_goes_on_after_the_connection_broke(self, wired: Any, wire: Wire) -> None:
        data = os.urandom(8 * MIB)
        wired.put("a", [data])
        wire.cuts = [MIB, 2 * MIB, MIB]
        assert read(wired, "a") == data
        assert wire.cuts == []
        wire.cuts = [MIB]
        assert b"".join(wired.get("a", offset=5, length=6 * MIB)) == data[5 : 6 * MIB + 5]

    def test_a_small_object_is_read_again_after_the_connection_broke(
        self, wired: Any, wire: Wire
    ) -> None:
        data = os.urandom(MIB)
        wired.put("a", [data])
        wire.cuts = [MIB // 3, MIB // 3]
        entry, found = wired.fetch("a", MIB)
        assert (entry.tag, found) == (next(wired.entries("")).tag, data)
        assert wire.cuts == []
        assert wired.fetch("a", MIB - 1) == (entry, b"")

    def test_a_download_of_what_was_replaced_meanwhile_fails(self, wired: Any, wire: Wire) -> None:
        wired.put("a", [b"1" * 8 * MIB])
        wire.cuts = [3 * MIB]
        chunks = wired.get("a")
        next(chunks)
        wired.put("a", [b"2" * 8 * MIB])
        with pytest.raises(StepFailed, match="changed while it was read"):
            list(chunks)

    def test_requests_that_fail_are_repeated(self, wired: Any, wire: Wire) -> None:
        failures = [refusal("500 Oops"), b""] * 2
        wire.answer = lambda head: failures.pop() if failures else None
        wired.put("a", [b"x" * MIB] * 12)
        assert failures == []
        assert read(wired, "a") == b"x" * 12 * MIB

    def test_a_web_page_is_no_empty_store(self, wired: Any, wire: Wire) -> None:
        page = b"<html>Log in first.</html>"
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(page)}\r\n\r\n".encode()
        wired.put("a/b", [b"kept"])
        assert wired.folders("none") == []
        wire.answer = lambda asked: head if asked.startswith("HEAD") else head + page
        with pytest.raises(StepFailed, match="is no object store") as caught:
            wired.folders("none")
        assert "Look at `endpoint`" in caught.value.remedy

    def test_a_server_that_gives_one_page_for_ever_is_told_as_that(
        self, wired: Any, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(paging, "LONGEST_SECONDS", 0.5)
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(self.page)}\r\n\r\n"
        wire.answer = lambda asked: (head + self.page).encode() if asked.startswith("GET") else None
        for attempt in (lambda: list(wired.entries("shop")), lambda: wired.folders("shop")):
            with pytest.raises(StepFailed, match="the end of a list: shop was") as caught:
                attempt()
            assert "Have it updated" in caught.value.remedy
