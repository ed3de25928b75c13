"""How the library for object stores makes its requests, whoever the provider is."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from runner.errors import StepFailed, UsageError
from runner.spec.model import TargetSpec
from runner.target.extra import install_line

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

CONNECT_SECONDS = 10.0
PAUSE_SECONDS = 0.5

_NEVER = re.compile(r"[@\s]")  # in a server's address
_NO_ANSWER = "HTTP error: error sending request"
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Manner:
    """How objects are written and requests made."""

    storage_class: str | None
    part_size: int  # bytes
    timeout: float  # seconds for a request, or without a byte of an answer
    retry: float  # seconds in which what failed is tried again

    def within(self, seconds: float) -> Self:
        """The same, but giving up sooner."""
        return replace(self, retry=min(self.retry, seconds))

    def retries(self) -> RetryConfig:
        """The same for the library."""
        return {"max_retries": 1000, "retry_timeout": timedelta(seconds=self.retry)}


def client(url: str, ca: str | None, waits: dict[str, timedelta]) -> ClientConfig:
    """How the library reaches the server at `url`. `ca`: certificates that are trusted too."""
    options: dict[str, object] = {
        **waits,
        "allow_http": url.startswith("http:"),
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
    }
    if ca is not None:
        options["root_certificate"] = ca
    return options  # type: ignore[return-value] # its names are those of the library


def reach(url: str, ca: str | None, *, timeout: float, patience: float) -> None:
    """Return once the server at `url` answers, whatever it says. Raises BaseError of the library
    when there was no answer for `patience` seconds.
    """
    import obstore
    from obstore.exceptions import BaseError
    from obstore.store import HTTPStore

    deadline = time.monotonic() + patience
    options = client(url, ca, {"timeout": timedelta(seconds=timeout)})
    server = HTTPStore.from_url(url, client_options=options, retry_config={"max_retries": 0})
    while True:
        try:
            obstore.head(server, "")
        except BaseError as error:
            if _NO_ANSWER not in str(error):
                return
            if time.monotonic() >= deadline:
                raise
            time.sleep(PAUSE_SECONDS)
        except FileNotFoundError:
            return
        else:
            return


def endpoint_of(spec: TargetSpec, *, default: str = "", example: str) -> str:
    """The address of the server, without a slash at its end. Raises UsageError: the library breaks
    down over one that cannot be.
    """
    text: str = (spec.options.get("endpoint") or default).rstrip("/")
    try:
        parts = urlsplit(text)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        fits = known and not (parts.query or parts.fragment or _NEVER.search(parts.netloc))
    except ValueError:
        fits = False
    if text and not fits:
        raise UsageError(
            f"Target {spec.name}: {text!r} is no endpoint.",
            remedy=f"Write the server's address alone: {example}. An IPv6 address is written in "
            "brackets: http://[::1]:9000.",
        )
    return text


def certificate_file(spec: TargetSpec) -> Path | None:
    """The file that the option `ca` names."""
    return spec.folder / Path(spec.options["ca"]).expanduser() if "ca" in spec.options else None


def certificates(spec: TargetSpec) -> str | None:
    """The certificates in that file. Raises UsageError."""
    path = certificate_file(spec)
    if path is None:
        return None
    import ssl

    try:
        # What stands between them are comments, in any encoding.
        found = "\n".join(_CERTIFICATE.findall(path.read_text(errors="replace")))
        if not found:
            raise ValueError("there is none in it")
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=found)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"Target {spec.name}: the certificates in {path} cannot be read: {error}.",
            remedy="Declare a file of certificates in PEM: -----BEGIN CERTIFICATE-----.",
        ) from error
    return found


def require_library(name: str) -> None:
    """Raise StepFailed unless what speaks to object stores is installed."""
    try:
        import obstore  # noqa: F401
    except ImportError:
        raise StepFailed(
            f"Target {name} needs a library that is not installed here.",
            remedy=install_line("cloud"),
        ) from None
