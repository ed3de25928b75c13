"""A repository's refs at one instant, and the bundle that holds exactly them.

The bundle's header is written here, not by `git bundle create`: so it names the ids that were
listed, whatever moves meanwhile, and a repository without a commit has a bundle too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from runner import process
from runner.errors import StepFailed
from runner.source.git_command import Repository, git
from runner.store.seal import Sink

# Where a bundle keeps the stashes but the newest: a repository has them in a reflog alone.
STASHES = b"refs/holdfast/stash/"
STASH_LOG = "logs/refs/stash"

_LISTINGS = 6
_CHUNK = 1 << 20
_LONGEST_LINE = 1 << 16
_REF = re.compile(rb"([0-9a-f]{40}|[0-9a-f]{64}) (HEAD|refs/[^\0 ]+)")
_SYMBOLIC = b"ref: "


@dataclass(frozen=True)
class Refs:
    """All refs and HEAD at one instant."""

    object_format: str  # sha1 | sha256
    ids: Mapping[bytes, str]  # of every ref, the symbolic ones too
    symbolic: Mapping[bytes, bytes]  # a symbolic ref's target; not HEAD's
    head: bytes  # as in the file HEAD: `ref: refs/heads/main`, or an id
    stashes: tuple[str, ...] = ()  # the commits of the stash's reflog, the oldest first
    stash_log: bytes = b""
    shallow: tuple[str, ...] = ()  # sorted; commits whose parents are not there
    warnings: str = ""  # what git said while it listed them

    @property
    def head_id(self) -> str:
        """The commit that HEAD is at; empty where there is none yet."""
        if self.head.startswith(_SYMBOLIC):
            return self.ids.get(self.head.removeprefix(_SYMBOLIC), "")
        return self.head.decode()


def read_refs(repository: Repository) -> Refs:
    """List the refs as they are now."""
    git_dir = repository.git_dir
    listed = git(
        "for-each-ref",
        "--format=%(objectname) %(refname) %(symref)",
        environment=repository.environment,
    )
    ids: dict[bytes, str] = {}
    symbolic: dict[bytes, bytes] = {}
    for line in listed.stdout.splitlines():
        object_id, name, target = line.split(b" ")
        if name.startswith(STASHES):
            continue
        ids[name] = object_id.decode()
        if target:
            symbolic[name] = target
    _refuse_broken(repository, listed.stderr)
    head = _head(repository)
    log = _linked(bytes_of(git_dir / STASH_LOG)) if b"refs/stash" in ids else b""
    return Refs(
        _object_format(repository, [*ids.values(), head.decode(errors="replace")]),
        ids,
        symbolic,
        head,
        tuple(line.split(b" ", 2)[1].decode() for line in log.splitlines()),
        log,
        tuple(sorted(bytes_of(git_dir / "shallow").decode().split())),
        listed.stderr,
    )


def read_steady(repository: Repository) -> tuple[Refs, bool]:
    """The refs of one instant: listed until two listings agree. False if they never did."""
    last = read_refs(repository)
    for _ in range(_LISTINGS):
        refs = read_refs(repository)
        if refs == last:
            return refs, True
        last = refs
    return last, False


def bundle_refs(refs: Refs) -> list[tuple[str, bytes]]:
    """The ids and names that the bundle of these refs lists."""
    found = [(object_id, name) for name, object_id in refs.ids.items()]
    if refs.head_id:
        found.append((refs.head_id, b"HEAD"))
    older = dict.fromkeys(one for one in refs.stashes if one != refs.ids.get(b"refs/stash"))
    found += [(one, STASHES + str(number).encode()) for number, one in enumerate(older)]
    return found


def write_bundle(refs: Refs, scratch: Path, shadow: Mapping[str, str], sink: Sink) -> None:
    """Stream the bundle of these refs, in constant memory. Raises CommandFailed."""
    named = bundle_refs(refs)
    if refs.object_format == "sha1":
        sink.write(b"# v2 git bundle\n")
    else:
        sink.write(b"# v3 git bundle\n@object-format=" + refs.object_format.encode() + b"\n")
    sink.write(b"".join(one.encode() + b" " + name + b"\n" for one, name in named) + b"\n")
    wanted = scratch / "wanted"
    wanted.write_text("".join(f"{one}\n" for one in dict.fromkeys(one for one, _ in named)))
    arguments = ["git", "pack-objects", "--revs", "--stdout", "--delta-base-offset", "-q"]
    with (
        wanted.open("rb") as ids,
        process.reading(arguments, stdin=ids, environment=shadow) as pack,
    ):
        while chunk := pack.read(_CHUNK):
            sink.write(chunk)


def read_bundle(chunks: Iterator[bytes]) -> tuple[Refs, Iterator[bytes]]:
    """The refs that a bundle lists, and the pack that follows them.

    HEAD is the id that the bundle has, if any; what else a bundle cannot say is left empty.
    Raises StepFailed when it is no whole bundle.
    """
    lines = _Lines(chunks)
    object_format = "sha1"
    version = lines.next()
    if version == b"# v3 git bundle":
        object_format = lines.next().removeprefix(b"@object-format=").decode(errors="replace")
    if version not in (b"# v2 git bundle", b"# v3 git bundle") or object_format not in (
        "sha1",
        "sha256",
    ):
        raise StepFailed("The bundle is damaged: its first lines are no bundle's.")
    ids: dict[bytes, str] = {}
    while line := lines.next():
        match = _REF.fullmatch(line)
        if match is None:
            raise StepFailed("The bundle is damaged: its list of refs cannot be read.")
        ids[match[2]] = match[1].decode()
    head = ids.pop(b"HEAD", "").encode()
    return Refs(object_format, ids, {}, head), lines.rest()


def without_stashes(refs: Refs) -> Refs:
    """The refs without those that only carry older stashes."""
    return replace(
        refs, ids={name: one for name, one in refs.ids.items() if not name.startswith(STASHES)}
    )


class _Lines:
    """Lines at the start of a stream of chunks, and what is left of it."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = b""
        self._position = 0

    def next(self) -> bytes:
        while (end := self._buffer.find(b"\n", self._position)) < 0:
            chunk = next(self._chunks, b"")
            if not chunk or len(self._buffer) - self._position > _LONGEST_LINE:
                raise StepFailed("The bundle is damaged: its list of refs has no end.")
            self._buffer, self._position = self._buffer[self._position :] + chunk, 0
        line = self._buffer[self._position : end]
        self._position = end + 1
        return line

    def rest(self) -> Iterator[bytes]:
        yield self._buffer[self._position :]
        yield from self._chunks


def _head(repository: Repository) -> bytes:
    """What HEAD says. Only where refs are kept as a table does git have to be asked."""
    file = repository.git_dir / "HEAD"
    if not file.is_symlink() and not (repository.git_dir / "reftable").exists():
        return file.read_bytes().strip()
    asked = repository.environment
    symbolic = git("symbolic-ref", "-q", "HEAD", environment=asked, accept=(0, 1)).stdout.strip()
    if symbolic:
        return _SYMBOLIC + symbolic
    return git("rev-parse", "--verify", "HEAD", environment=asked).stdout.strip()


def _refuse_broken(repository: Repository, said: str) -> None:
    """Raise StepFailed for refs that git passes over: after a power cut their files are empty."""
    broken = re.findall(r"ignoring broken ref (\S+)", said)
    if broken:
        raise StepFailed(
            f"{repository.root} has broken refs: {', '.join(broken)}. What they led to would not "
            "be in the backup.",
            remedy=f"`{repository.git_dir}/logs/{broken[0]}` says which commits it had: give one "
            f"to `git update-ref {broken[0]}`; or remove the file of a ref that nobody needs.",
        )


def _linked(log: bytes) -> bytes:
    """A reflog whose lines begin with the id before, as `git reflog --rewrite` makes it.

    Where an older line has expired, the id that it had may be no object any more.
    """
    lines = [line.split(b" ", 1) for line in log.splitlines(keepends=True)]
    before = b"0" * len(lines[0][0]) if lines else b""
    linked = []
    for _, rest in lines:
        linked.append(before + b" " + rest)
        before = rest.split(b" ", 1)[0]
    return b"".join(linked)


def _object_format(repository: Repository, ids: list[str]) -> str:
    for one in ids:
        if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", one):
            return "sha1" if len(one) == 40 else "sha256"
    asked = repository.environment
    return git("rev-parse", "--show-object-format", environment=asked).stdout.decode().strip()


def bytes_of(path: Path) -> bytes:
    """What is in a file of git's; nothing where there is none."""
    return path.read_bytes() if path.is_file() else b""
