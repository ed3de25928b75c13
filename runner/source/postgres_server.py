"""How a PostgreSQL server is reached: what a spec says of it, as libpq and its programs want it.

What a spec leaves out is libpq's own default: `PG*` variables, a service file, `~/.pgpass`, the
socket of this machine.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from runner.errors import UsageError
from runner.secret import SCRUBBER, Secret

# Fields of a spec that are libpq's keywords of the same name.
KEYWORDS = ("host", "port", "user", "dbname", "service", "sslmode")
FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
SCHEMES = ("postgres://", "postgresql://")

# A firewall forgets a connection that says nothing for minutes, and one that waits says nothing.
ALIVE = {"keepalives_idle": "60", "keepalives_interval": "10", "keepalives_count": "6"}
CONNECT_SECONDS = "15"
_DRIVER = re.compile(r"^(postgres(?:ql)?)\+[a-z0-9_]+://")
APPLICATION = "holdfast"


@dataclass(frozen=True)
class Server:
    """A server, and one database of it."""

    fields: Mapping[str, str] = field(default_factory=dict)  # libpq's keywords; no password
    password: Secret | None = None
    url: Secret | str | None = None  # a string holds no password
    exec: tuple[str, ...] = ()  # what client programs are started with, where the database is
    bin: str = ""  # the folder of the client programs; empty: they are looked for
    folder: Path = field(default_factory=Path)  # relative paths and `exec` start here

    @classmethod
    def of(cls, options: Mapping[str, Any], folder: Path) -> Server:
        """The server that a spec's options name."""
        fields = {name: str(options[name]) for name in KEYWORDS if options.get(name) is not None}
        for name in FILES:
            if name in options:
                fields[name] = str(folder / Path(options[name]).expanduser())
        # A role may be needed where there is no libpq that has one: every field wins over the URL.
        return cls(
            fields,
            options.get("password"),
            options.get("url"),
            tuple(shlex.split(options.get("exec", ""))),
            options.get("bin", ""),
            folder,
        )

    @classmethod
    def on_socket(
        cls, folder: Path, port: int, user: str, dbname: str = "postgres", programs: str = ""
    ) -> Server:
        """A server of this machine that listens on a socket in `folder`.

        `programs` is the folder of its client programs; empty: they are looked for.
        """
        where = {"host": str(folder), "port": str(port), "user": user, "dbname": dbname}
        return cls(where, bin=programs)

    def database(self, name: str) -> Server:
        """Another database of the same server."""
        return replace(self, fields={**self.fields, "dbname": name})

    def having(self, settings: Mapping[str, str]) -> Server:
        """The same, for sessions that begin with these settings."""
        if not settings:
            return self
        words = [f"-c {name}={to}" for name, to in settings.items()]
        options = " ".join([self.keywords().get("options", ""), *words]).strip()
        return replace(self, fields={**self.fields, "options": options})

    def at(self, destination: str) -> Server:
        """What a destination names: a URL another server, a plain name a database of this one."""
        if not destination:
            return self
        if not destination.startswith(SCHEMES):
            return self.database(destination)
        there = Server(url=destination, bin="" if self.exec else self.bin, folder=self.folder)
        ours, theirs = self.keywords(), there.keywords()
        same = all(ours.get(name) == theirs.get(name) for name in ("host", "port", "user"))
        return replace(there, password=self.password) if same else there

    def keywords(self) -> dict[str, str]:
        """All that was declared, by libpq's keywords; never a password."""
        found = {**self._from_url(), **self.fields}
        found.pop("password", None)
        return found

    @property
    def dbname(self) -> str:
        """The declared database; empty where libpq chooses it."""
        return self.keywords().get("dbname", "")

    def secret(self) -> str:
        """The password; empty where none was declared."""
        if self.password is not None:
            return self.password.reveal()
        found = self._from_url().get("password", "")
        if found:
            SCRUBBER.learn(found)
        return found

    def conninfo(self, application: str = APPLICATION) -> str:
        """A connection string without a password, safe as an argument whatever the names are."""
        found = self.keywords()
        if found.get("host") and "service" not in found:
            # Else a variable of the environment could lead elsewhere than to the declared host.
            found.setdefault("hostaddr", "")
        found = {
            "connect_timeout": CONNECT_SECONDS,
            "application_name": application,
            **ALIVE,
            **found,
        }
        return " ".join(f"{name}={_quoted(value)}" for name, value in found.items())

    def address(self) -> str:
        """A URL without a password."""
        found = self.keywords()
        user = quote(found.pop("user", ""), safe="")
        name = quote(found.pop("dbname", ""), safe="")
        host = found.get("host", "")
        where = ""
        if host and not host.startswith(("/", "@")) and "," not in host:
            del found["host"]
            where = f"[{host}]" if ":" in host else quote(host, safe="")
            port = found.pop("port", "")
            where += f":{port}" if port else ""
        parameters = f"?{urlencode(found, quote_via=quote)}" if found else ""
        return f"postgresql://{user}{'@' if user else ''}{where}/{name}{parameters}"

    def describe(self) -> str:
        """For a person; looks no secret up."""
        inside = f" by `{shlex.join(self.exec)}`" if self.exec else ""
        if isinstance(self.url, Secret):
            name = f" {self.fields['dbname']}" if "dbname" in self.fields else ""
            return f"database{name} of {self.url}{inside}"
        found = self.keywords()
        name = f"database {found['dbname']}" if found.get("dbname") else "the default database"
        if "service" in found:
            return f"{name} of service {found['service']}{inside}"
        port = f":{found['port']}" if "port" in found else ""
        return f"{name} at {found.get('host') or 'the local socket'}{port}{inside}"

    def _from_url(self) -> dict[str, str]:
        if self.url is None:
            return {}
        from psycopg import ProgrammingError
        from psycopg.conninfo import conninfo_to_dict

        text = self.url.reveal() if isinstance(self.url, Secret) else self.url
        try:
            # Applications name their driver in it, which is nothing to libpq.
            found = conninfo_to_dict(_DRIVER.sub(r"\1://", text))
        except ProgrammingError as error:
            # What libpq says quotes what it was given.
            raise UsageError(
                f"The URL in {self.url} is none of PostgreSQL's."
                if isinstance(self.url, Secret)
                else "The URL is none of PostgreSQL's.",
                remedy="Write postgresql://USER@HOST:PORT/DATABASE, with odd characters as %XX.",
            ) from error
        return {name: str(value) for name, value in found.items() if value is not None}


@contextlib.contextmanager
def environment(server: Server) -> Iterator[dict[str, str]]:
    """The environment of a client program on this machine.

    A password is in a file that exists in memory alone and ends with this process: it stands in
    no argument, in no variable and on no disk.
    """
    found = {name: value for name, value in os.environ.items() if name != "PGCLIENTENCODING"}
    found |= {"LC_MESSAGES": "C", "LANGUAGE": ""}
    password = "" if server.exec else server.secret()
    if not password:
        yield found
        return
    if "\n" in password:
        raise UsageError("A password with a line break cannot be given to PostgreSQL's programs.")
    found.pop("PGPASSWORD", None)
    descriptor = os.memfd_create("passfile")
    try:
        os.fchmod(descriptor, 0o600)
        escaped = password.replace("\\", "\\\\").replace(":", "\\:")
        os.write(descriptor, f"*:*:*:*:{escaped}\n".encode())
        yield {**found, "PGPASSFILE": f"/proc/{os.getpid()}/fd/{descriptor}"}
    finally:
        os.close(descriptor)


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
