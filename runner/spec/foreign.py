"""What a spec that came from elsewhere would do here: its commands, where it writes, what it lacks.

The schemas say what a command, a path and a secret is, so a new field of a spec is seen as well.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from runner.secret import Secret
from runner.spec import document
from runner.spec.convert import resolve
from runner.spec.marks import Place, written
from runner.spec.model import Spec
from runner.spec.schema import Node, Schemas, load_schemas

# Never needed to recover: where snapshots are kept, the keys of who makes them, who hears of them.
_NOT_RECOVERED = ("targets", "encryption", "signing", "profiles", "policies", "notify")
_SERVERS = ("host", "tcp", "url")  # what names a server, also without being an address
_NO_SERVERS = ("files", "git", "sqlite")  # the types of sources that stand in folders here
_HERE = ("", "localhost", "127.0.0.1", "::1")
_INSTEAD = ("skip", "same")  # what `drill` says where it is no command


@dataclass(frozen=True)
class Found:
    """One value of a spec, of a kind that matters here."""

    kind: str  # command | path | secret | server | text
    place: Place
    text: str

    def __str__(self) -> str:
        return f"{written(self.place)}: {self.text}"


def commands(spec: Spec) -> list[str]:
    """Everything that the spec would have run, with where it stands in it."""
    found = [
        f"sources.{name}: the SQL of its dump, whatever it says"
        for name, one in spec.sources.items()
        if one.type == "postgres"
    ]
    for one in _values(spec):
        if one.kind == "command" and one.text not in _INSTEAD:
            found.append(str(one))
        if one.kind == "secret" and one.text.startswith("command:"):
            found.append(str(one))
    return found


def places_outside(spec: Spec, folder: Path) -> list[str]:
    """The paths that the spec names outside `folder`, or by a variable that nobody has set, with
    where they stand in it.
    """
    unset = {problem.path for problem in spec.unset}
    return [
        str(one)
        for one in _values(spec)
        if one.kind == "path"
        and (
            written(one.place) in unset
            or not _absolute(spec, one.text).is_relative_to(folder.absolute())
        )
    ]


def servers_and_secrets(spec: Spec) -> list[str]:
    """What a recovery would log in to, send something to, or hand out of this machine, with where
    it stands in the spec. What is put together with variables is not: their values may be secret.
    """
    composed = variables(spec)
    return [
        str(one)
        for one in _values(spec)
        if one.kind in ("secret", "server")
        and one.place[0] not in _NOT_RECOVERED
        and not one.text.startswith("command:")
        and not any(shown.startswith(f"{written(one.place)}: ") for shown in composed)
    ]


def variables(spec: Spec) -> list[str]:
    """What is put together with variables, with where it stands in the file: an env file of the
    snapshot may set them, and one of this machine may end in an address.
    """
    raw, _, _ = document.read(spec.file)
    profile = raw.get("profiles", {}).get(spec.profile) or {}
    used = [(name, one) for half in (raw, profile) for name, one in half.items()]
    return [
        str(one)
        for name, value in used
        if name not in _NOT_RECOVERED
        for one in _texts(value, (name,))
        if "${" in one.text
    ]


def _texts(value: Any, place: Place) -> Iterator[Found]:
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _texts(one, (*place, name))
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _texts(one, (*place, index))
    elif isinstance(value, str):
        yield Found("text", place, value)


def hands_out_secrets(spec: Spec) -> bool:
    """Whether a source would log in, with a secret of this machine, to a server elsewhere that the
    spec itself names.
    """
    found = [one for one in _values(spec) if one.place[0] == "sources"]
    elsewhere = {one.place[1] for one in found if one.kind == "server" and _is_elsewhere(one)}
    return any(one.kind == "secret" and one.place[1] in elsewhere for one in found)


def lacking(spec: Spec, *, there: Callable[[Path], bool] = Path.is_file) -> list[str]:
    """What a recovery would ask for and this machine does not have: variables and secrets' files.
    `there` says of a file whether it is on this machine.

    What a source of files brings back is not counted: it is there when it is asked for.
    """
    coming = _coming_back(spec)
    variables_come = any(not there(file) and coming(file) for file in spec.env_files)
    found = [
        f"{problem.path}: {problem.message}"
        for problem in spec.unset
        if not problem.path.startswith(_NOT_RECOVERED) and not variables_come
    ]
    environment = {**spec.environment, **os.environ}
    for one in _values(spec):
        if one.kind != "secret" or one.place[0] in _NOT_RECOVERED:
            continue
        kind, _, name = one.text.partition(":")
        if kind == "env" and name not in environment and not variables_come:
            found.append(f"{written(one.place)}: the variable {name} is not set")
        file = Secret(one.text, spec.folder).file
        if file is not None and not there(file) and not coming(file):
            found.append(f"{written(one.place)}: there is no file {file}")
        credentials = Path(environment.get("CREDENTIALS_DIRECTORY", "/run/credentials/none"))
        if kind == "credential" and not there(credentials / name):
            found.append(f"{written(one.place)}: systemd gives no credential {name}")
    return found


def waits_for_variables(spec: Spec) -> bool:
    """Whether anything that the spec says of sources, targets or a recovery lacks a variable."""
    environment = {**spec.environment, **os.environ}
    return bool(spec.unset) or any(
        one.kind == "secret"
        and one.text.startswith("env:")
        and one.text.removeprefix("env:") not in environment
        for one in _values(spec)
    )


def asked_of_programs(spec: Spec) -> list[str]:
    """The secrets that a recovery asks some program for, which may not answer elsewhere."""
    return [
        str(one)
        for one in _values(spec)
        if one.kind == "secret"
        and one.text.startswith("command:")
        and one.place[0] not in _NOT_RECOVERED
    ]


def known_paths(spec: Spec, source: str) -> list[str]:
    """The paths of a source of files, as declared, that wait for no variable."""
    unset = {problem.path for problem in spec.unset}
    return [
        path
        for number, path in enumerate(spec.document["sources"][source]["paths"])
        if written(("sources", source, "paths", number)) not in unset
    ]


def _coming_back(spec: Spec) -> Callable[[Path], bool]:
    """Whether a file is among what some source of files restores."""
    paths = [
        _absolute(spec, path)
        for name, source in spec.sources.items()
        if source.type == "files"
        for path in known_paths(spec, name)
    ]
    return lambda file: any(file.absolute().is_relative_to(path) for path in paths)


def _absolute(spec: Spec, path: str) -> Path:
    return Path(os.path.normpath(resolve(spec.folder, path).absolute()))


def _values(spec: Spec) -> Iterator[Found]:
    schemas = load_schemas()
    for found in _below(schemas, schemas.root, spec.document, ()):
        if found.place[0] not in ("profiles", "policies"):
            yield found


def _below(schemas: Schemas, node: Node | None, value: Any, place: Place) -> Iterator[Found]:
    shape = schemas.shape(node, value)
    if shape.kind == "secret" and isinstance(value, dict):
        yield Found("secret", place, str(value.get("secret")))
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from _below(schemas, shape.child(name), one, (*place, name))
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _below(schemas, shape.items, one, (*place, index))
    elif isinstance(value, str):
        # The paths of a source of files are patterns of their own, and places all the same.
        kind = "path" if place[:1] == ("sources",) and "paths" in place else shape.kind
        if kind in ("command", "path") and place[0] != "targets":
            yield Found(kind, place, value)
        elif "://" in value or place[-1] in _SERVERS or _is_server(place, value):
            yield Found("server", place, value)


def _is_elsewhere(found: Found) -> bool:
    """Whether a server is another machine: a type alone is a server here, and so is a socket."""
    if found.place[-1] == "type":
        return False
    try:
        host = urlsplit(found.text).hostname or "" if "://" in found.text else found.text
    except ValueError:
        return True
    return not (host in _HERE or host.startswith("/"))


def _is_server(place: Place, value: str) -> bool:
    return place[0] == "sources" and place[2:] == ("type",) and value not in _NO_SERVERS
