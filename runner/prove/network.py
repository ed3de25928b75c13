"""Questions that a server answers: over HTTP, or by taking a connection."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from runner.prove.answer import Asked, Reply, could_not, passed, refused, skipped
from runner.spec.model import Probe
from runner.trust import trusting

if TYPE_CHECKING:
    import ssl

MOST_BODY = 1024 * 1024
CHUNK = 64 * 1024
NOT_HERE = "it asks the live system, and here nothing but what was restored may be asked"


def ask_http(probe: Probe, asked: Asked, timeout: float) -> Reply:
    """GET the address: its status must be `expect` (200), and its body contain `options.body`.

    Redirects are followed, unless one is expected. No proxy is asked. Over TLS the certificate must
    be signed by `options.ca`, else by whom the system trusts; with `options.insecure` any will do.
    """
    status = 200 if probe.expect is None else probe.expect
    body = probe.options.get("body")
    expected: Any = status if body is None else f"{status}, with {body!r} in the body"
    if asked.isolated:
        return skipped(expected, NOT_HERE)
    try:
        address = urlsplit(probe.value)
        proper = address.scheme in ("http", "https") and bool(address.hostname)
        _ = address.port
    except ValueError:
        proper = False
    if not proper:
        return could_not(expected, f"{probe.value} is not an address of http or https")
    try:
        tls = _context(probe.options) if address.scheme == "https" else None
    except OSError as error:
        return could_not(expected, f"{probe.options['ca']} cannot be used: {error}")
    return _fetch(probe.value, str(status), body, expected, timeout, tls)


def _context(options: Mapping[str, Any]) -> ssl.SSLContext:
    """Whose certificates are taken."""
    import ssl

    context = trusting(options.get("ca"))
    if options.get("insecure"):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _fetch(
    url: str,
    status: str,
    body: str | None,
    expected: Any,
    timeout: float,
    tls: ssl.SSLContext | None,
) -> Reply:
    from http.client import HTTPException, InvalidURL
    from urllib.error import HTTPError
    from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, build_opener

    class Stay(HTTPRedirectHandler):
        def redirect_request(self, *_: Any) -> None:
            return None

    handlers = [ProxyHandler({}), HTTPSHandler(context=tls)]
    handlers += [Stay()] if status.startswith("3") else []
    deadline = time.monotonic() + timeout
    try:
        try:
            response: Any = build_opener(*handlers).open(url, timeout=timeout)
        except HTTPError as error:
            response = error
        with response:
            if str(response.status) != status:
                return refused(expected, response.status)
            if body is None:
                return passed(expected, response.status)
            text = _read(response, deadline).decode(errors="replace")
    except (InvalidURL, UnicodeError) as error:
        return could_not(expected, f"{url} cannot be asked: {error}")
    except (OSError, HTTPException) as error:
        return refused(expected, f"no answer: {_words(error)}")
    if body in text:
        return passed(expected, f"{status}, with it in the body")
    return refused(expected, f"{status}, with this body: {text[:200]}")


def _words(error: Exception) -> str:
    """What went wrong, as the system says it: `Connection refused`."""
    reason = getattr(error, "reason", None) or error
    return getattr(reason, "strerror", None) or str(reason) or repr(reason)


def _read(response: IO[bytes], deadline: float) -> bytes:
    data = b""
    while len(data) < MOST_BODY and time.monotonic() < deadline:
        chunk = response.read1(CHUNK)  # type: ignore[attr-defined]
        if not chunk:
            break
        data += chunk
    return data


def ask_tcp(probe: Probe, asked: Asked, timeout: float) -> Reply:
    """Connect to `host:port`."""
    expected = "a connection"
    if asked.isolated:
        return skipped(expected, NOT_HERE)
    address = host_and_port(probe.value)
    if address is None:
        return could_not(expected, f"{probe.value} is not host:port")
    try:
        with socket.create_connection(address, timeout):
            return passed(expected, "connected")
    except (OSError, UnicodeError) as error:
        return refused(expected, f"no connection: {_words(error)}")


def host_and_port(value: str) -> tuple[str, int] | None:
    """Read `host:port` or `[::1]:port`; None where it is neither."""
    host, _, port = value.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        return None
    return host, int(port)
