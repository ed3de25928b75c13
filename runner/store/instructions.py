"""RESTORE.md: how to bring a snapshot back with ordinary tools, on any machine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from runner.store.snapshot import SUMS

# Programs worth naming, and what a person installs to get each.
_PROGRAMS = {
    "age": "age (https://age-encryption.org)",
    "zstd": "zstd",
    "gzip": "gzip",
    "tar": "GNU tar",
    "git": "git",
    "sqlite3": "sqlite3",
    "python3": "Python 3",
    "pg_restore": "pg_restore, of the server's version or later",
    "psql": "psql",
    "redis-server": "redis-server or valkey-server, the one that was captured, as new or newer",
    "redis-cli": "redis-cli or valkey-cli",
}

_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_MARKDOWN = re.compile(r"([\\`*<>\[\]|~&])")
_FENCE = re.compile(r"^[ \t]*(```|~~~)", re.MULTILINE)
_UNSAFE_IN_LINE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


_HEAD = """\
# How to restore {snapshot}

This folder is one snapshot of project {project}, profile {profile}, made at {created_at} on host
{host}. It holds:"""

_GO_ON = """\
## How to go on

Run the blocks below in this order, with `bash -e`, in this folder. They write only below its new
folder `restored`, and touch nothing of what runs. If one fails, stop and read its message. If
this folder cannot be written, copy all of it to one that can."""

_IDENTITY = """\
The files are encrypted. Name the identity's file first, with its full path, for example
`export AGE_IDENTITY=/mnt/usb/identity.txt`. Without it nobody can read them."""

# They say what is wrong, and a person is told to read that.
_SEE_IDENTITY = [
    ': "${AGE_IDENTITY:?name the file of the age identity in AGE_IDENTITY}"',
    'head -c 1 -- "$AGE_IDENTITY" > /dev/null',
]

_CHECK = """\
## 1. Check that nothing was damaged

Each line must end with `OK`. A line that does not names the damaged file: use another copy of
this snapshot then, or another snapshot."""

_SIGNED = """\
That shows that nothing was damaged, and not who made it. If you have the file of allowed signers
(`signing.allowed_signers` of the spec), check that too, with the name that stands in it:
`ssh-keygen -Y verify -f FILE -I NAME -n holdfast -s SHA256SUMS.sig < SHA256SUMS`."""

_SERVER = """\
To load it into the server that the `PG*` variables or `REDIS_DATA_DIR` name:"""

# What a document that a snapshot carries is, by the name under which it is read.
_DOCUMENTS = {
    "RUNBOOK.md": """\
restored/RUNBOOK.md is the whole recovery from this snapshot, step by step: which commands in which
order, how to check each, how to undo it.""",
    "spec.yaml": """\
restored/spec.yaml is the backup.yaml that this snapshot was made by: what stood where, and in which
order a recovery goes. It names secrets, and holds none.""",
}

_RESULT = """\
Open what came back and look for what you know must be there: the newest rows of a table, the
last commit, a file that you remember. Only then put it where it belongs, and keep what stood
there before until everything works."""


@dataclass(frozen=True)
class Section:
    """How one source comes back."""

    source: str
    type: str
    taken_at: str  # RFC 3339 in UTC
    lines: Sequence[str]  # shell lines that write `restored/<source>`
    notes: Sequence[str] = ()  # what a person should know
    place: str = ""  # where the content stood, for a person
    server_lines: Sequence[str] = ()  # shell lines that load it into a running server


def instructions(
    *,
    snapshot: str,
    project: str,
    profile: str,
    created_at: str,
    host: str,
    encrypted: bool,
    sections: Sequence[Section],
    unchanged: Mapping[str, str] | None = None,
    missing: Sequence[str] = (),
    documents: Mapping[str, str] | None = None,
    signed: bool = False,
) -> bytes:
    """The text of RESTORE.md.

    Its blocks fenced as exactly `sh`, run in order by `bash -e` in the snapshot's folder, write
    `restored/<source>`; where it is encrypted, `AGE_IDENTITY` names the identity's file.
    Nothing from the spec or the data can open or close a fence. `unchanged` says which snapshot has
    the content of a source, and `missing` ones could not be captured. `documents` are the shell
    lines that print the spec and the runbook, by file; `signed` ones have a SHA256SUMS.sig.
    """
    told = {"snapshot": snapshot, "project": project, "profile": profile}
    told |= {"created_at": created_at, "host": host}
    identity = _SEE_IDENTITY if encrypted else []
    check = [f"sha256sum -c {SUMS}", *identity, "mkdir -p restored"]
    parts = [
        _HEAD.format_map({name: _prose(text) for name, text in told.items()}),
        "\n".join(f"- {one}" for one in _held(sections, unchanged or {}, missing)),
        "## What you need",
        "\n".join(f"- {one}" for one in _needs(encrypted, sections)),
        _GO_ON,
        *([_IDENTITY] if encrypted else []),
        _CHECK,
        _block("sh", check),
        *([_SIGNED] if signed else []),
        *(part for number, one in enumerate(sections, 2) for part in _section(number, one)),
        *_papers(len(sections) + 2, documents or {}),
        f"## {len(sections) + (3 if documents else 2)}. Check the result",
        _RESULT,
    ]
    return ("\n\n".join(parts) + "\n").encode("utf-8", "backslashreplace")


def _held(
    sections: Iterable[Section], unchanged: Mapping[str, str], missing: Iterable[str]
) -> Iterator[str]:
    """What a snapshot holds, and what a person could look for in vain."""
    yield from map(_is, sections)
    for source, holder in unchanged.items():
        yield (
            f"not {_prose(source)}, which was unchanged: it is in the snapshot {_prose(holder)}, "
            "the folder of that name beside this one, and so is how to bring it back"
        )
    for source in missing:
        yield f"not {_prose(source)}, which could not be captured: take an older snapshot's"


def _is(section: Section) -> str:
    name, kind, taken_at = _prose(section.source), _prose(section.type), _prose(section.taken_at)
    return f"{name} ({kind}), as it was at {taken_at}"


def _section(number: int, section: Section) -> Iterator[str]:
    yield f"## {number}. Bring back {_prose(section.source)}"
    place = f" It stood at {_prose(section.place)}." if section.place else ""
    yield f"{_is(section)}. The result is restored/{_prose(section.source)}.{place}"
    if section.notes:
        yield "\n".join(f"- Note: {_prose(note)}" for note in section.notes)
    yield _block("sh", ["set -o pipefail", *section.lines])
    if section.server_lines:
        yield _SERVER
        yield _block("sh server", ["set -o pipefail", *section.server_lines])


def _papers(number: int, documents: Mapping[str, str]) -> Iterator[str]:
    """How to read the documents, each under the name that it has without what seals it."""
    lines = {
        name: f"{line} > restored/{name}"
        for name in _DOCUMENTS
        for key, line in documents.items()
        if key.startswith(name)
    }
    if lines:
        yield f"## {number}. Read how it all fits together"
        yield "\n\n".join(_DOCUMENTS[name] for name in lines)
        yield _block("sh", ["set -o pipefail", *lines.values()])


def _needs(encrypted: bool, sections: Iterable[Section]) -> list[str]:
    lines = [line for one in sections for line in (*one.lines, *one.server_lines)]
    needs = ["bash, coreutils", *programs_in(lines)]
    if encrypted:
        needs.append("the file with the age identity (the private key) of a recipient")
    return needs


def programs_in(lines: Iterable[str]) -> list[str]:
    """The programs worth naming that shell lines call, as a person knows them."""
    words = {word for line in lines for word in re.findall(r"[A-Za-z0-9_-]+", line)}
    return [text for name, text in _PROGRAMS.items() if name in words]


def _block(fence: str, lines: Iterable[str]) -> str:
    return "\n".join([f"```{fence}", *(_line(one) for one in lines), "```"])


def _line(line: str) -> str:
    """A shell line that stays inside its fence and shows all that it holds.

    Where a quoted name has control characters, or breaks the line so that a fence would stand
    at its beginning, the line is written as one string for `eval`, with those as escapes.
    """
    if not (_FENCE.search(line) or _UNSAFE_IN_LINE.search(line)):
        return line
    data = line.encode("utf-8", "surrogateescape")
    return "eval $'" + "".join(_escaped(byte) for byte in data) + "'"


def _escaped(byte: int) -> str:
    character = chr(byte)
    if 0x20 <= byte < 0x7F and character not in "\\'`":
        return character
    return {"\n": "\\n", "\\": "\\\\", "'": "\\'"}.get(character, f"\\x{byte:02x}")


def _prose(text: str) -> str:
    """Text from outside as words in a line: no control characters, no Markdown."""
    visible = _CHARACTERS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    return _MARKDOWN.sub(r"\\\1", visible)
