"""Capturing a repository: the bundle, uncommitted work, and what git keeps beside its refs."""

from __future__ import annotations

import functools
import os
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runner.errors import StepFailed
from runner.process import CommandFailed
from runner.source import Capture, Captured
from runner.source import git_extras as extras
from runner.source import git_work as work
from runner.source.git_command import Repository, environment, git, shadow, text
from runner.source.git_fingerprint import fingerprint_of
from runner.source.git_refs import Refs, read_refs, read_steady, write_bundle

MOST_NAMED = 5  # uncommitted paths, in a note

_ATTEMPTS = 3
_ATTRIBUTES = b".gitattributes"
_IN_PROGRESS = {
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase",
    "MERGE_HEAD": "a merge",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
    "BISECT_LOG": "a bisection",
}


@dataclass(frozen=True)
class _Bundled:
    """What one capture of the refs came to."""

    refs: Refs
    steady: bool  # whether two listings agreed
    at: datetime
    shadow: Mapping[str, str]  # the environment that reads objects and the working tree


def in_progress(git_dir: Path) -> list[str]:
    """What somebody began in a repository and has not ended, in words."""
    return sorted({words for name, words in _IN_PROGRESS.items() if (git_dir / name).exists()})


def capture_repository(repository: Repository, capture: Capture, *, uncommitted: bool) -> Captured:
    """Store all of a repository on this machine."""
    config = repository.git_dir / "config"
    settings = extras.read_settings(config)
    return _capture(repository, capture, settings, config.read_bytes(), uncommitted=uncommitted)


def capture_remote(url: str, capture: Capture) -> Captured:
    """Store all that a remote shows, by a mirror clone in the capture's scratch folder."""
    mirror = capture.scratch / "mirror"
    git("clone", "-q", "--mirror", "--no-local", "--template=", "--", url, mirror,
        environment=environment(remote=True))  # fmt: skip
    # It comes back as an ordinary clone of that remote, not as a mirror that pushes deletions.
    settings = [
        ("remote.origin.url", url),
        ("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"),
    ]
    config = extras.format_settings(settings).encode()
    repository = Repository(mirror, mirror, bare=True)
    return _capture(repository, capture, settings, config, bare=False)


def _capture(
    repository: Repository,
    capture: Capture,
    settings: Sequence[extras.Setting],
    config: bytes,
    *,
    uncommitted: bool = False,
    bare: bool | None = None,
) -> Captured:
    bare = repository.bare if bare is None else bare
    bundled = _store_bundle(repository, capture, settings)
    refs = bundled.refs
    found = extras.collect(repository.git_dir, refs, bare=bare, config=config)
    done = work.Work()
    if uncommitted and not bare:
        _store_work(repository, capture, bundled, done)
        found = extras.Extras({**found.files, "deleted": b"".join(p + b"\0" for p in done.deleted)})
    capture.store("tar", functools.partial(extras.write, found), part="config")
    return Captured(
        bundled.at,
        fingerprint_of(refs, settings, bare=bare, uncommitted=done.found),
        consistency="exact" if bundled.steady and not done.moved else "fuzzy",
        notes=(
            *_notes(repository, bundled, done),
            *_left_behind(repository, capture, bundled, uncommitted=uncommitted),
        ),
    )


def _store_bundle(
    repository: Repository, capture: Capture, settings: Sequence[extras.Setting]
) -> _Bundled:
    """List the refs and bundle them; anew if what was listed vanished before it was read."""
    for attempt in range(_ATTEMPTS):
        refs, steady = read_steady(repository)
        at = datetime.now(UTC)
        scratch = capture.scratch / f"shadow-{attempt}"
        data = extras.format_settings(one for one in settings if one[0].startswith("core."))
        reading = shadow(repository, scratch, refs.object_format, refs.head_id, data)
        try:
            capture.store("bundle", functools.partial(write_bundle, refs, scratch, reading))
        except CommandFailed as error:
            if attempt + 1 < _ATTEMPTS and read_refs(repository) != refs:
                continue
            raise StepFailed(
                f"The objects of {repository.root} cannot all be read: {error.message}",
                remedy="`git fsck --full` there says what is damaged; a partial clone must be "
                "made whole by `git fetch --refetch --no-filter` first.",
            ) from error
        return _Bundled(refs, steady, at, reading)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _store_work(
    repository: Repository, capture: Capture, bundled: _Bundled, done: work.Work
) -> None:
    work.reveal(bundled.shadow, repository.root)
    paths = work.capturable(
        work.changed_paths(bundled.shadow, repository.root), repository.root, capture.excluded
    )
    listed = list(paths)

    def produce(sink: Any) -> None:
        work.write(listed, repository.root, done, sink)

    capture.store("tar", produce, part="uncommitted")


def _notes(repository: Repository, bundled: _Bundled, done: work.Work) -> list[str]:
    git_dir = repository.git_dir
    notes = [f"git: {line}" for line in bundled.refs.warnings.splitlines()]
    if not bundled.steady:
        notes.append("refs moved all the while: they may not be of one instant")
    if not bundled.refs.ids:
        notes.append("it holds no commit at all")
    linked, lfs = _elsewhere(bundled)
    if linked or (git_dir / "modules").is_dir():
        notes.append("submodules: their commits are recorded, their repositories not included")
    if lfs or (git_dir / "lfs" / "objects").is_dir():
        notes.append("Git LFS: its pointers are included, its objects are not")
    if any((git_dir / "worktrees").glob("*")):
        notes.append("linked worktrees: a detached HEAD or uncommitted work there is not included")
    if (git_dir / "info" / "grafts").is_file():
        notes.append("info/grafts: what only a graft leads to is not included")
    if bundled.refs.shallow:
        notes.append("a shallow clone: the history ends where it was cut")
    notes += [
        f"{words} was in progress: only its commits are included" for words in in_progress(git_dir)
    ]
    notes += [f"{name} is a repository of its own: not included" for name in done.nested]
    notes += [f"{name} changed while it was read" for name in done.moved]
    return notes


def _left_behind(
    repository: Repository, capture: Capture, bundled: _Bundled, *, uncommitted: bool
) -> list[str]:
    """A line that names the uncommitted work, where nobody asked for it: it would be lost."""
    if uncommitted or repository.bare:
        return []
    try:
        changed = work.changed_paths(bundled.shadow, repository.root)
    except CommandFailed as error:
        return [f"uncommitted work is not included, and git does not tell of it: {error.message}"]
    paths = list(map(text, work.capturable(changed, repository.root, capture.excluded)))
    if not paths:
        return []
    more = len(paths) - MOST_NAMED
    named = ", ".join(paths[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    return [f"not committed, so not included: {named} (`uncommitted: true` takes that in)"]


def _elsewhere(bundled: _Bundled) -> tuple[bool, bool]:
    """Whether HEAD has submodules (or repositories that were added like one), and whether it has
    files that are Git LFS's: also where nothing of either was ever fetched, as in a mirror.
    """
    if not bundled.refs.head_id:
        return False, False
    listed = git("ls-tree", "-rz", bundled.refs.head_id, environment=bundled.shadow).stdout
    entries = [entry.partition(b"\t") for entry in listed.split(b"\0") if entry]
    attributes = [about.split()[2] for about, _, path in entries if path.endswith(_ATTRIBUTES)]
    found = b""
    if attributes:
        ids = b"".join(one + b"\n" for one in attributes)
        found = git("cat-file", "--batch", environment=bundled.shadow, stdin=ids).stdout
    return any(about.startswith(b"160000 ") for about, *_ in entries), b"filter=lfs" in found


def shown(found: Captured) -> Captured:
    """The capture without more notes than a manifest has room for."""
    most = 20
    if len(found.notes) <= most:
        return found
    left = len(found.notes) - most
    return replace(found, notes=(*found.notes[:most], f"and {left} more notes"))


def worked_on(repository: Repository, excluded: Sequence[Path]) -> bytes:
    """The uncommitted paths with their sizes and times: differs when the work goes on."""
    with tempfile.TemporaryDirectory() as scratch:
        refs = read_refs(repository)
        data = extras.read_settings(repository.git_dir / "config")
        core = extras.format_settings(one for one in data if one[0].startswith("core."))
        reading = shadow(repository, Path(scratch), refs.object_format, refs.head_id, core)
        work.reveal(reading, repository.root)
        changed = work.changed_paths(reading, repository.root)
    lines = []
    for path in work.capturable(changed, repository.root, excluded):
        full = repository.root / os.fsdecode(path)
        look: tuple[int, ...] = ()  # of what is gone
        if os.path.lexists(full):
            status = full.lstat()
            look = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        lines.append((path, look))
    return repr(lines).encode()


def capture_lines(name: str, url: str | None, root: Path, *, uncommitted: bool) -> list[str]:
    """What a person would type to get a bundle, and a tar of what is not committed."""
    repository, bundle = shlex.quote(str(root)), f"{name}.bundle"
    lines = []
    if url:
        repository = f"{name}.git"
        lines.append(f"git clone --mirror -- {shlex.quote(url)} {repository}")
    lines.append(f'git -C {repository} bundle create "$PWD/{bundle}" HEAD --all')
    if uncommitted:
        lines.append(
            f"git -C {repository} ls-files -z --modified --others --exclude-standard "
            f"| tar -C {repository} --null --files-from=- -cf {name}.uncommitted.tar"
        )
    return lines
