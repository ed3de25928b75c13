"""Whose certificates are taken."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from runner.trust import trusting
from tests.source.test_postgres_tls import request, signed


def test_an_authority_that_somebody_made_by_hand_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It lacks what Python 3.13 and later ask of it; no other program does."""
    usual = ssl.create_default_context

    def strict(**options: str | None) -> ssl.SSLContext:
        context = usual(**options)  # type: ignore[arg-type]
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    request(tmp_path, "ca", "Our Authority", "-addext", "basicConstraints=CA:TRUE")
    signed(tmp_path, "server", "server", "DNS:localhost")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    authority = str(tmp_path / "ca.crt")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(strict(cafile=authority), server)
    shake_hands(trusting(authority), server)


def test_an_authority_that_nobody_named_is_not(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        trusting(str(tmp_path / "missing"))
    assert trusting().verify_mode is ssl.CERT_REQUIRED
    assert trusting().check_hostname


def shake_hands(one: ssl.SSLContext, other: ssl.SSLContext) -> None:
    """Let a client and a server agree, in memory."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = one.wrap_bio(back, there, server_hostname="localhost")
    server = other.wrap_bio(there, back, server_side=True)
    waiting = [client, server]
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
