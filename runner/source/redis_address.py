"""Where a Redis server is, and who asks it: from the spec's options, or from a URL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import ParseResult, parse_qs, quote, unquote, urlparse

from runner.errors import HoldfastError, UsageError
from runner.secret import SCRUBBER, Secret
from runner.source.redis_choose import chosen_of

PORT = 6379
SCHEMES = ("redis", "rediss", "unix")
# A URL that holds nothing to hide: hidden, it could not be told which server is meant.
_BARE = re.compile(r"(redis|rediss|unix)://[^@?\s]*(\?db=[0-9]+)?")
KNOWN = "Write redis://HOST:PORT/DB, rediss://HOST:PORT/DB or unix:///PATH?db=DB."


@dataclass(frozen=True)
class Tls:
    """How a server is spoken to over TLS."""

    ca: str | None = None  # a file of certificates; None: those that the system trusts
    certificate: str | None = None  # a file; of the client, where the server asks for one
    key: str | None = None  # a file
    verify: bool = True  # the server's certificate and its name


@dataclass(frozen=True)
class Address:
    """A server, by TCP or by a Unix socket, and the user that asks it."""

    host: str = "127.0.0.1"
    port: int = PORT
    socket: str = ""  # a path; if not empty, host and port mean nothing
    database: int = 0
    user: str = ""  # empty: the default one
    password: Secret | str | None = field(default=None, repr=False)
    tls: Tls | None = None
    hidden: str = ""  # a secret that cannot be had yet, and is the URL: nothing else is known

    @property
    def url(self) -> str:
        """What names the server and its database to a person or a program, without a password."""
        if self.hidden:
            return self.hidden
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        if self.socket:
            return f"unix://{user}{quote(self.socket)}?db={self.database}"
        scheme = "rediss" if self.tls else "redis"
        return f"{scheme}://{user}{self.where}/{self.database}"

    @property
    def where(self) -> str:
        """The server for a sentence: `host:port`, or the socket's path."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.socket or f"{host}:{self.port}"

    def secret(self) -> str:
        """The password; empty for none. Raises UsageError when it cannot be had."""
        if isinstance(self.password, Secret):
            return self.password.reveal()
        return self.password or ""

    def at(self, url: str) -> Address:
        """The server that `url` names, asked by the same user with the same password and TLS about
        the same database: keys that are brought there keep their numbers.

        Raises UsageError for a URL that names none.
        """
        other = parse(url)
        return replace(
            other,
            database=self.database,
            user=other.user or self.user,
            password=other.password or self.password,
            tls=(self.tls or other.tls) if url.startswith("rediss:") else None,
        )

    def beside(self, host: str, port: int) -> Address:
        """Another server of the same cluster, asked in the same way."""
        return replace(self, host=host, port=port, socket="")


def address_of(options: Mapping[str, Any], folder: Path) -> Address:
    """The server that a source's options name; relative paths start at `folder`.

    Raises UsageError when a URL that is a secret cannot be had or names no server.
    """
    url = options.get("url")
    if isinstance(url, Secret):
        url = url.reveal(public=lambda text: bool(_BARE.fullmatch(text)))
    if url:
        base = parse(url)
    else:
        base = Address(
            options.get("host", "127.0.0.1"),
            options.get("port", PORT),
            _path(options.get("socket", ""), folder),
            options.get("db", 0),
        )
    chosen = chosen_of(options)
    if chosen and base.database not in chosen:
        base = replace(base, database=min(chosen))
    return replace(
        base,
        user=options.get("user") or base.user,
        password=options.get("password") or base.password,
        tls=_tls(options["tls"], folder) if "tls" in options else base.tls,
    )


def shown_address(options: Mapping[str, Any], folder: Path) -> Address:
    """The same for a person. The secret that is its URL may be lost with the server: it comes
    back when the recovery brings back the env file.
    """
    try:
        return address_of(options, folder)
    except HoldfastError:
        if isinstance(options.get("url"), Secret):
            return Address(hidden=str(options["url"]))
        raise


def parse(url: str) -> Address:
    """The server that a URL names. Raises UsageError, without repeating a password in it."""
    parts = urlparse(url)
    if parts.scheme not in SCHEMES:
        raise UsageError("This is not the URL of a Redis server.", remedy=KNOWN)
    password = unquote(parts.password or "") or None
    if password is not None:
        SCRUBBER.learn(password)
    address = Address(
        database=_database(parts), user=unquote(parts.username or ""), password=password
    )
    if parts.scheme == "unix":
        return replace(address, socket=unquote(parts.path))
    try:
        port = parts.port or PORT
    except ValueError as error:
        raise UsageError(f"The port of this URL is wrong: {error}.", remedy=KNOWN) from error
    tls = Tls() if parts.scheme == "rediss" else None
    return replace(address, host=unquote(parts.hostname or address.host), port=port, tls=tls)


def _database(parts: ParseResult) -> int:
    asked = parse_qs(parts.query).get("db")
    text = asked[0] if asked else "" if parts.scheme == "unix" else parts.path.strip("/")
    if text and not text.isdecimal():
        raise UsageError(f"{text!r} is not the number of a Redis database.", remedy=KNOWN)
    return int(text or 0)


def _tls(options: Mapping[str, Any], folder: Path) -> Tls:
    ca, certificate, key = (
        _path(options.get(name, ""), folder) or None for name in ("ca", "certificate", "key")
    )
    return Tls(ca, certificate, key, options.get("verify", True))


def _path(path: str, folder: Path) -> str:
    return str(folder / Path(path).expanduser()) if path else ""
