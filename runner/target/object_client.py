"""How the library for object stores makes its requests, whoever the provider is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Self

from runner.errors import StepFailed

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

CONNECT_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How requests are made."""

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


def require_library(name: str) -> None:
    """Raise StepFailed unless what speaks to object stores is installed."""
    try:
        import obstore  # noqa: F401
    except ImportError:
        raise StepFailed(
            f"Target {name} needs a library that is not installed here.",
            remedy="pip install 'holdfast[cloud]'",
        ) from None
