"""What a repository is, as JSON that can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from runner.source import Fingerprint
from runner.source.git_command import Repository, text
from runner.source.git_extras import Setting, settings_digest
from runner.source.git_refs import Refs, read_refs


def fingerprint_of(
    refs: Refs,
    settings: Sequence[Setting],
    *,
    bare: bool,
    uncommitted: Mapping[str, str],
) -> dict[str, Any]:
    """What a repository is, as JSON."""
    return {
        "object_format": refs.object_format,
        "bare": bare,
        "head": text(refs.head),
        "refs": {text(name): one for name, one in sorted(refs.ids.items())},
        "symbolic": {text(name): text(to) for name, to in sorted(refs.symbolic.items())},
        "stashes": list(refs.stashes),
        "shallow": list(refs.shallow),
        "settings": settings_digest(settings),
        "uncommitted": dict(sorted(uncommitted.items())),
    }


def refs_state(repository: Repository) -> dict[str, Any]:
    """Refs and HEAD as JSON, to compare a repository with itself after a move."""
    state = fingerprint_of(read_refs(repository), [], bare=repository.bare, uncommitted={})
    return {name: state[name] for name in ("head", "refs", "symbolic", "stashes", "shallow")}


def differences(expected: Fingerprint, found: Fingerprint) -> list[str]:
    """How one repository's fingerprint differs from another's, in words."""
    words = []
    for name, what in (
        ("object_format", "the object format"), ("bare", "whether it is bare"), ("head", "HEAD"),
        ("stashes", "the list of stashes"), ("shallow", "where the history is cut"),
        ("settings", "the settings (remotes, branches, user)"),
    ):  # fmt: skip
        if expected.get(name) != found.get(name):
            words.append(f"{what} differs: {expected.get(name)} was, {found.get(name)} is")
    for name, noun in (("refs", "ref"), ("symbolic", "symbolic ref"), ("uncommitted", "path")):
        words += _changes(expected.get(name) or {}, found.get(name) or {}, noun)
    return words


def _changes(expected: Mapping[str, Any], found: Mapping[str, Any], noun: str) -> list[str]:
    words = []
    for name in sorted(expected.keys() | found.keys()):
        was, now = expected.get(name), found.get(name)
        if now is None:
            words.append(f"the {noun} {name} is missing")
        elif was is None:
            words.append(f"the {noun} {name} was not there")
        elif was != now:
            words.append(f"the {noun} {name} is {now}, not {was}")
    return words
