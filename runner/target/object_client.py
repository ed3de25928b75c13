"""How the library for object stores makes its requests, whoever the provider is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Self

from runner.errors import StepFailed, UsageError
from runner.spec.model import TargetSpec

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


def certificates(spec: TargetSpec) -> str | None:
    """The text of the file that the option `ca` names. Raises UsageError."""
    if "ca" not in spec.options:
        return None
    path = spec.folder / Path(spec.options["ca"]).expanduser()
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"Target {spec.name}: the certificates in {path} cannot be read: {error}."
        ) from error


def require_library(name: str) -> None:
    """Raise StepFailed unless what speaks to object stores is installed."""
    try:
        import obstore  # noqa: F401
    except ImportError:
        raise StepFailed(
            f"Target {name} needs a library that is not installed here.",
            remedy="pip install 'holdfast[cloud]'",
        ) from None
