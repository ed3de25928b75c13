"""Targets by their address: `s3://bucket/prefix?region=…`, where there is no spec to name them.

What stands before the `?` says where; each option of the type's schema may follow it. A secret is
given by reference, as in a spec: `?access_key=env:NAME`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from runner.errors import UsageError
from runner.spec.convert import to_targets
from runner.spec.document import Plain
from runner.spec.marks import Place, nearest
from runner.spec.model import TargetSpec
from runner.spec.schema import Schemas, load_schemas
from runner.spec.validate import Validation
from runner.spec.values import Completion, typed

Options = dict[str, Any]

# A name that no target of a spec can have, for the messages of what checks specs.
_SOMEWHERE = ("targets", "origin")


def is_address(text: str) -> bool:
    """Whether that is an address or a path, and not the name of a target in a spec."""
    return "/" in text or ":" in text or text in (".", "..", "~")


def target_at(address: str, folder: Path) -> TargetSpec:
    """The target at an address; relative paths start in `folder`.

    Its name is the address without options. Raises UsageError, saying what is wrong with it.
    """
    schemas = load_schemas()
    parts = _split(address, folder)
    if parts.scheme not in _PLACES:
        types = schemas.types("target")
        known = [f"{name}://…" for name, (kind, _) in _PLACES.items() if kind in types]
        raise UsageError(
            f"--from: there is no kind of address `{parts.scheme}:`.",
            remedy=f"Known: a path, {', '.join(known)}.",
        )
    if parts.password is not None:
        raise UsageError(
            "--from: a password stands in the address, where others can read it.",
            remedy="Put it into the environment, and write ?password=env:NAME.",
        )
    kind, place = _PLACES[parts.scheme]
    declared: Options = {"type": kind, **place(parts)}
    shape = schemas.shape(schemas.at({}, ("targets",)).others, declared)
    # A plus is one: these are no answers to a form.
    query = parts.query.replace("+", "%2B")
    for name, text in parse_qsl(query, keep_blank_values=True):
        if name not in shape.properties or name == "type":
            known = sorted(set(shape.properties) - {"type", "keep"})
            raise UsageError(
                f"--from: a target of type {kind} has no option `{name}`.{nearest(name, known)}",
                remedy=f"Known: {', '.join(known)}.",
            )
        declared[name] = _value(schemas, shape.properties[name], text)
    options = _completed(schemas, declared, folder)
    name = address.partition("?")[0] if parts.scheme != "file" else str(declared["path"])
    return replace(to_targets({"targets": {"origin": options}}, folder, {})["origin"], name=name)


def _split(address: str, folder: Path) -> SplitResult:
    try:
        if "://" in address:
            return urlsplit(address, allow_fragments=False)
        return SplitResult("file", "", str(folder / Path(address).expanduser()), "", "")
    except (ValueError, RuntimeError) as error:
        raise UsageError(f"--from: {address!r} is no address: {error}.") from None


def _value(schemas: Schemas, node: Any, text: str) -> Any:
    """An option's text in the form in which a spec declares it."""
    shape = schemas.shape(node, text)
    if shape.kind == "secret":
        return {"secret": text}
    if shape.types == {"object"}:
        return _server(urlsplit(f"//{text}"))
    return typed(Plain(text), shape.types)


def _completed(schemas: Schemas, declared: Options, folder: Path) -> Options:
    """Those options checked by their schema, in the form that the models hold."""
    document: dict[str, Any] = {
        "version": 1,
        "project": "any",
        "sources": {"any": {"type": "files", "paths": ["."]}},
        "targets": {"origin": declared},
    }
    problems = [
        (place, message) for place, message, _ in Validation(schemas, document, {}).complaints()
    ]

    def tell(place: Place, message: str) -> None:
        problems.append((place, message))

    values = Completion(schemas, folder, os.environ, {}, tell).value(document, schemas.root)
    if problems:
        place, message = problems[0]
        if place[-1] == "secret":
            raise UsageError(
                f"--from: `{place[-2]}` is given by reference, never as the value itself.",
                remedy=f"Write {place[-2]}=env:NAME or {place[-2]}=file:PATH.",
            )
        about = ".".join(str(part) for part in place[len(_SOMEWHERE) :])
        raise UsageError(f"--from: {about}{': ' if about else ''}{message}")
    completed: Options = values["targets"]["origin"]
    return completed


def _file(parts: SplitResult) -> Options:
    if parts.netloc not in ("", "localhost"):
        raise UsageError(
            f"--from: file://{parts.netloc}/… names another machine.",
            remedy="A folder of this one has three slashes: file:///mnt/usb.",
        )
    return {"path": unquote(parts.path)}


def _bucket(parts: SplitResult) -> Options:
    return {"bucket": parts.netloc, "prefix": unquote(parts.path.strip("/"))}


def _container(parts: SplitResult) -> Options:
    return {"container": parts.netloc, "prefix": unquote(parts.path.strip("/"))}


def _remote(parts: SplitResult) -> Options:
    return {"remote": unquote(parts.netloc + parts.path)}


def _folder(parts: SplitResult) -> Options:
    """A path of an SSH server; `/~/` is the home folder there, as in other programs' addresses."""
    path = unquote(parts.path)
    at_home = path in ("/~", "/~/")
    return {**_server(parts), "path": "~/" if at_home else path.removeprefix("/~/") or "/"}


def _server(parts: SplitResult) -> Options:
    """A server's name, port and user: `user@host:22`."""
    try:
        user = None if parts.username is None else unquote(parts.username)
        given = {"host": parts.hostname, "port": parts.port, "user": user}
    except ValueError as error:
        raise UsageError(f"--from: {parts.netloc!r} is no server: {error}.") from None
    return {name: value for name, value in given.items() if value is not None}


# The kinds of address: the type that each is of, and where it says what. `az://` and `gs://` are
# what the clouds' own programs print.
_PLACES: Mapping[str, tuple[str, Callable[[SplitResult], Options]]] = {
    "file": ("local", _file),
    "s3": ("s3", _bucket),
    "sftp": ("sftp", _folder),
    "azure": ("azure", _container),
    "az": ("azure", _container),
    "gcs": ("gcs", _bucket),
    "gs": ("gcs", _bucket),
    "rclone": ("rclone", _remote),
}
