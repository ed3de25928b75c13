"""What a repository has beside its objects and refs: the artifact `config`, a small tar.

HEAD, object-format, bare, symrefs, shallow, stash (the reflog), deleted: one plain file each, so
that a shell can use them. With them the repository's own config, exclude, attributes, description
and hooks.

A config or a hook is code that runs, and a snapshot may have been forged. So of the config only
settings that are data come back (remotes, branches, the user, line ends, …), the whole of it
lies beside as `config.captured`, and hooks come back without the right to execute.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runner.errors import StepFailed
from runner.source.git_command import environment, git
from runner.source.git_refs import STASH_LOG, Refs, bytes_of
from runner.source.git_tar import reading, writing
from runner.store.seal import Sink

# Settings that are data to every git, as an extended regular expression on `section.sub.key`.
SAFE_KEYS = (
    r"^(user\.(name|email|signingkey)"
    r"|remote\.pushdefault|remote\..+\.(url|pushurl|fetch|push|mirror|tagopt|prune|prunetags)"
    r"|branch\..+\.(remote|merge|rebase|pushremote|description)"
    r"|core\.(autocrlf|eol|safecrlf|quotepath|abbrev)"
    r"|pull\.(rebase|ff)|push\.(default|followtags|autosetupremote)"
    r"|fetch\.(prune|prunetags)|merge\.(ff|conflictstyle)|rebase\.(autostash|autosquash))$"
)
# Of URLs: one that names a program (`ext::…`), or would be read as an option.
UNSAFE_VALUE = r"^-|^[A-Za-z0-9+.-]+::"

_MOST_HOOK_BYTES = 1 << 20
_MOST_BYTES = 64 << 20
_SAFE = re.compile(SAFE_KEYS, re.DOTALL)
_UNSAFE = re.compile(UNSAFE_VALUE)
_HOOK = re.compile(r"hooks/[A-Za-z0-9][A-Za-z0-9._-]*")

Setting = tuple[str, str]  # key and value; bytes that are no text as surrogates


@dataclass(frozen=True)
class Extras:
    """The files of the artifact `config`, by name."""

    files: Mapping[str, bytes] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        """Whether there is such a file with anything in it."""
        return bool(self.files.get(name))

    def lines(self, name: str) -> list[bytes]:
        """The lines of a file; none where it is missing."""
        return self.files.get(name, b"").splitlines()

    @property
    def hooks(self) -> dict[str, bytes]:
        """The hooks, by their file's name."""
        return {
            name.removeprefix("hooks/"): content
            for name, content in self.files.items()
            if _HOOK.fullmatch(name)
        }


def read_settings(config: Path) -> list[Setting]:
    """The settings of a config file that are data, in order. Raises CommandFailed."""
    if not config.is_file():
        return []
    listed = git("config", "-z", "--file", config, "--list", environment=environment()).stdout
    found = []
    for entry in listed.decode(errors="surrogateescape").split("\0"):
        key, equals, value = entry.partition("\n")
        url = key.endswith("url")
        if equals and _SAFE.match(key) and not (url and _UNSAFE.match(value)):
            found.append((key, value))
    return found


def format_settings(settings: Iterable[Setting]) -> str:
    """Settings as a config file says them."""
    lines = []
    for key, value in settings:
        section, _, rest = key.partition(".")
        middle, dot, name = rest.rpartition(".")
        head = f'[{section} "{_escaped(middle)}"]' if dot else f"[{section}]"
        quoted = _escaped(value).replace("\n", "\\n").replace("\t", "\\t").replace("\b", "\\b")
        lines.append(f'{head}\n\t{name} = "{quoted}"\n')
    return "".join(lines)


def settings_digest(settings: Iterable[Setting]) -> str:
    """A hash that is equal for equal settings, in whatever order their sections stand."""
    grouped = sorted(enumerate(settings), key=lambda one: (one[1][0], one[0]))
    joined = "\0".join(f"{key}\n{value}" for _, (key, value) in grouped)
    return hashlib.sha256(joined.encode(errors="surrogateescape")).hexdigest()


def collect(git_dir: Path, refs: Refs, *, bare: bool, config: bytes | None = None) -> Extras:
    """The extras of a repository as it is now; `config` replaces its own."""
    files = {
        "HEAD": refs.head + b"\n",
        "object-format": refs.object_format.encode() + b"\n",
        "bare": b"true\n" if bare else b"false\n",
        "symrefs": b"".join(name + b" " + to + b"\n" for name, to in refs.symbolic.items()),
        "shallow": "".join(f"{one}\n" for one in refs.shallow).encode(),
        "stash": refs.stash_log,
        "config": config or bytes_of(git_dir / "config"),
        "exclude": bytes_of(git_dir / "info" / "exclude"),
        "attributes": bytes_of(git_dir / "info" / "attributes"),
        "description": bytes_of(git_dir / "description"),
    }
    for hook in sorted((git_dir / "hooks").glob("*")):
        name = f"hooks/{hook.name}"
        if hook.suffix == ".sample" or not hook.is_file() or not _HOOK.fullmatch(name):
            continue
        if hook.stat().st_size <= _MOST_HOOK_BYTES:
            files[name] = hook.read_bytes()
    return Extras({name: content for name, content in files.items() if content})


def write(extras: Extras, sink: Sink) -> None:
    """Stream the extras as a tar: the same bytes for the same extras."""
    with writing(sink) as archive:
        for name, content in extras.files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o600
            archive.addfile(member, io.BytesIO(content))


def read(chunks: Iterator[bytes]) -> Extras:
    """The extras of a stored artifact, to its end. Raises StepFailed when it is damaged."""
    files = {}
    with reading(chunks, "config") as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            if content is None or member.size > _MOST_BYTES:
                raise StepFailed(f"The artifact `config` has an odd member: {member.name!r}.")
            files[member.name] = content.read()
    if not {"HEAD", "object-format", "bare"} <= files.keys():
        raise StepFailed("The artifact `config` is not whole: HEAD is missing.")
    return Extras(files)


def put_back(extras: Extras, git_dir: Path, scratch: Path) -> None:
    """Write the extras that are files of a repository: settings, hooks, exclude, stash, …"""
    captured = extras.files.get("config", b"")
    (scratch / "config").write_bytes(captured)
    settings = format_settings(read_settings(scratch / "config"))
    with (git_dir / "config").open("a", errors="surrogateescape") as config:
        config.write(settings)
    places = {"config": "config.captured", "exclude": "info/exclude", "stash": STASH_LOG}
    places |= {"attributes": "info/attributes", "description": "description"}
    places |= {f"hooks/{one}": f"hooks/{one}" for one in extras.hooks}
    for name, place in places.items():
        if extras.has(name):
            path = git_dir / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(extras.files[name])


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
