"""A git repository: every ref with its history, HEAD, stashes, and uncommitted work if asked.

Artifacts: a bundle of all refs (main), `config` (see git_extras), and `uncommitted`, a tar. Not
kept: reflogs but the stash's, the index, the repositories of submodules, Git LFS objects.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from runner import swap
from runner.errors import PersonNeeded, StepFailed, UsageError
from runner.source import (
    Artifacts,
    Capture,
    Captured,
    Content,
    Copy,
    Decode,
    Examined,
    Fingerprint,
    Kept,
    Place,
    Prompt,
    Source,
    Stored,
    prompts,
    replaced,
)
from runner.source import git_swap as exchange
from runner.source.git_capture import (
    capture_lines,
    capture_remote,
    capture_repository,
    in_progress,
    shown,
    worked_on,
)
from runner.source.git_command import environment, find, git, missing
from runner.source.git_extras import collect
from runner.source.git_extras import read as read_extras
from runner.source.git_fingerprint import differences, fingerprint_of, refs_state
from runner.source.git_refs import read_refs
from runner.source.git_shell import place_lines, restore_lines
from runner.source.git_stage import Staging, fingerprint, stage
from runner.source.git_work import tracked_changes
from runner.spec.model import SourceSpec
from runner.swap import Move


def open_source(spec: SourceSpec) -> Source:
    """The git source that a spec declares."""
    return GitSource(spec)


class GitSource:
    """One repository: on this machine (`path`), or a remote (`url`), which is restored to its
    working clone (`path` beside it), or nowhere of its own.
    """

    compares_content: ClassVar[bool] = True  # a ref's hash is that of all it leads to

    def __init__(self, spec: SourceSpec) -> None:
        self.name = spec.name
        self._url: str | None = spec.options.get("url")
        self._has_place = self._url is None or "path" in spec.options
        self._root = spec.folder / Path(spec.options.get("path", ".")).expanduser()
        self._root = Path(os.path.normpath(self._root.absolute()))
        self._uncommitted = bool(spec.options.get("uncommitted", False))

    @property
    def paths(self) -> Sequence[Path]:
        """The repository's root, or that of the clone; nothing for a remote without one."""
        return (self._root,) if self._has_place else ()

    def describe(self) -> str:
        """The path or the URL, and where its clone stands."""
        clone = f", its clone {self._root}" if self._url and self._has_place else ""
        return f"git repository {self._url or self._root}{clone}"

    def exists(self) -> bool:
        """Whether there is a repository, or its remote answers."""
        if self._has_place and find(self._root) is not None:
            return True
        return self._url is not None and _answers(self._url)

    def changed_mark(self, excluded: Sequence[Path] = ()) -> str | None:
        """A hash of all that the artifacts hold; of what is uncommitted, as far as times tell."""
        if self._url:
            listed = git(
                "ls-remote", "--symref", "--", self._url, environment=environment(remote=True)
            )
            # Without a password, which nobody should be able to guess at by the mark.
            address = self._url.rpartition("@")[2].encode()
            return hashlib.sha256(address + b"\0" + listed.stdout).hexdigest()
        repository = find(self._root)
        if repository is None:
            return None
        refs = read_refs(repository)
        state = fingerprint_of(refs, (), bare=repository.bare, uncommitted={})
        beside = collect(repository.git_dir, refs, bare=repository.bare)
        digest = hashlib.sha256((json.dumps(state) + repr(beside.files)).encode())
        if self._uncommitted and not repository.bare:
            digest.update(worked_on(repository, excluded))
        return digest.hexdigest()

    def capture_commands(self) -> list[str]:
        """A bundle by git itself; and a tar of what is not committed."""
        return capture_lines(self.name, self._url, self._root, uncommitted=self._uncommitted)

    def capture(self, capture: Capture) -> Captured:
        """Store the artifacts of one instant's refs. Changes nothing in the repository."""
        if self._url:
            return shown(capture_remote(self._url, capture))
        repository = find(self._root)
        if repository is None:
            raise missing(self._root)
        return shown(capture_repository(repository, capture, uncommitted=self._uncommitted))

    def contents(self, artifacts: Artifacts) -> Iterator[Content]:
        """HEAD and every ref with its id, then the paths of uncommitted work."""
        found = artifacts.fingerprint
        yield Content("HEAD", found["head"])
        for name, object_id in found["refs"].items():
            yield Content(name, f"ref {object_id}")
        for name, what in found["uncommitted"].items():
            yield Content(name, f"uncommitted {what.partition(' ')[0]}")

    def destination(self, typed: str) -> str:
        """A folder."""
        return str(Path(typed).expanduser().absolute())

    def require_possible(self, place: Place) -> None:
        """It is restored whole."""
        if place.include:
            raise UsageError(
                "A git repository is restored whole: --include has no meaning for it.",
                remedy="Restore with --to FOLDER, then take what you need: "
                "`git -C FOLDER show HEAD:PATH`.",
            )

    def scratch_destination(self, folder: Path) -> str:
        """A folder of the source's name."""
        return str(folder / self.name)

    def placed(self, path: Path, destination: str) -> Path:  # noqa: ARG002 - there is one path
        """The destination itself."""
        return Path(destination)

    def address(self, destination: str) -> str:
        """The clone's path, or the URL."""
        if destination or self._has_place:
            return destination or str(self._root)
        return str(self._url)

    def examine(self) -> Iterator[Examined]:
        """Whether the remote answers, where its clone says that there is live content."""
        if self._url and self._has_place:
            there = _answers(self._url)
            words = self._url + ("" if there else " does not answer")
            yield Examined(f"remote of {self.name}", "ok" if there else "FAIL", words)

    def prompt(self, destination: str, text: str | None) -> Prompt:
        """A shell in the restored folder."""
        return prompts.shell(destination, text)

    def ask(self, kind: str, question: str, where: str, timeout: float) -> Any:  # noqa: ARG002
        """It holds no values."""
        raise StepFailed(f"{self.name} is a git repository: it cannot be asked {kind}.")

    def stage(self, artifacts: Artifacts, place: Place) -> None:
        """Make the repository anew beside (or, for a folder that is there, inside) the
        destination. Raises UsageError for what a git restore cannot do.
        """
        self.require_possible(place)
        if self.swapped(place) == "partial":
            raise PersonNeeded(
                f"{self._live(place)} was only partly exchanged by the run {place.token}.",
                remedy="Resume that run, or take its swap back.",
            )
        self.discard(place)
        live = self._live(place)
        found = read_extras(artifacts.read("config"))
        bare = found.files["bare"].strip() == b"true"
        exchange.require_same_shape(live, bare=bare)
        inside = live.is_dir() and not bare
        staging = Staging(_inside(live, place, self.name) if inside else self._beside(place))
        try:
            stage(artifacts, found, staging, live if live.is_dir() else None)
        except BaseException:
            self.discard(place)
            raise

    def staged(self, place: Place) -> Path | str | None:
        """The staged repository, while it is whole and not swapped in."""
        staging = self._staging(place)
        whole = staging.recorded.exists() and find(staging.tree) is not None
        return staging.tree if whole else None

    def fingerprint(self, place: Place) -> Fingerprint:
        """What is staged, once `git fsck` has found it whole."""
        return fingerprint(self._staging(place))

    def differences(
        self,
        expected: Fingerprint,
        found: Fingerprint,
        place: Place,  # noqa: ARG002 - the protocol's
    ) -> Sequence[str]:
        """Each ref, path and property that is not as it was."""
        return differences(expected, found)

    def identity(self, place: Place) -> str:
        """The device and inode of the repository's own folder."""
        live = self._live(place)
        for path in (live / exchange.GIT, live):
            if path.exists():
                status = path.stat()
                return f"{status.st_dev}:{status.st_ino}"
        return "absent"

    def gate(self, place: Place) -> None:
        """Nobody may be in the middle of something in the live repository."""
        live = self._live(place)
        repository = find(live)
        if repository is None:
            return
        busy = in_progress(repository.git_dir)
        if busy:
            raise PersonNeeded(
                f"In {live}, {' and '.join(busy)} is in progress.",
                remedy=f"End or abort it first (`git -C {live} status` says how).",
            )
        lock = repository.git_dir / "index.lock"
        if lock.exists():
            raise PersonNeeded(
                f"A git command is running in {live}: {lock} exists.",
                remedy="Wait for it; if none is running, remove that file.",
            )

    def swap(self, place: Place) -> Sequence[str]:
        """Exchange; return the one folder in which all that was replaced lies, if any."""
        live, staging = self._live(place), self._staging(place)
        if not staging.record.exists():
            staging.read()
            moves = self._moves(staging, live, place)
            exchange.make_room(moves, live)
        else:
            moves = []
        swap.exchange(moves, staging.record)
        done = swap.read_moves(staging.record)
        exchange.settle({move.safety.parent for move in done} | {move.live.parent for move in done})
        kept = [exchange.safety_folder(live, place.token), swap.safety(live, place.token)]
        exchange.remove_empty(kept[0])
        return [str(path) for path in kept if os.path.lexists(path)]

    def swapped(self, place: Place) -> str:
        """How far the swap got: absent | partial | done."""
        return swap.progress(self._staging(place).record)

    def confirm(self, place: Place) -> Sequence[str]:
        """Raise StepFailed unless the destination has the staged refs, HEAD and tracked files."""
        live = self._live(place)
        recorded = self._staging(place).read()
        repository = find(live)
        if repository is None or refs_state(repository) != recorded["refs"]:
            raise StepFailed(f"{live} does not have the refs that were restored.")
        if repository.bare:
            return ()
        expected = {bytes.fromhex(one) for one in recorded["final"]}
        changed = expected ^ set(tracked_changes(repository.environment, live))
        wrong = [
            one[3:] for one in changed
            if not any((live / os.fsdecode(one[3:])).is_relative_to(p) for p in place.protected)
        ]  # fmt: skip
        if wrong:
            raise StepFailed(
                f"{len(wrong)} tracked files in {live} are not as restored: {min(wrong)!r}."
            )
        return ()

    def unswap(self, place: Place) -> None:
        """Put back what was exchanged; untracked files were never touched."""
        swap.undo(self._staging(place).record)
        exchange.remove_empty(exchange.safety_folder(self._live(place), place.token))

    def discard(self, place: Place) -> None:
        """Remove what was staged."""
        for folder in (_inside(self._live(place), place, self.name), self._beside(place)):
            swap.forget(Staging(folder).record)
            swap.remove_tree(folder)

    def keep(self, place: Place) -> Kept:
        """The moves."""
        return replaced.note_of(swap.read_moves(self._staging(place).record), place.token)

    def put_back(self, kept: Kept, place: Place) -> Sequence[str]:
        """Exchange `.git` and the tracked files with their safety copies."""
        live = self._live(place)
        staging = self._staging(place)
        if not staging.record.exists():
            moves = replaced.moves_back(kept, place.token)
            if all(live in path.parents for one in moves for path in (one.staged, one.live)):
                staging = Staging(_inside(live, place, self.name))
            exchange.make_room(moves, live)
            swap.exchange(moves, staging.record)
        copies = self.swap(place)
        exchange.remove_empty(exchange.safety_folder(live, kept["token"]))
        return copies

    def copies(self, kept: Kept) -> Sequence[Copy]:
        """The folder that holds what was replaced."""
        return replaced.copies(kept)

    def drop(self, kept: Kept) -> None:
        """Remove it."""
        replaced.drop(kept)

    def restore_commands(self, stored: Sequence[Stored], decode: Decode, folder: str) -> list[str]:
        """git, tar and bash make `folder` the repository."""
        return restore_lines(stored, decode, folder)

    def place_commands(self, folder: str) -> list[str]:
        """Copy it to where it stood; a remote is written to by a person alone."""
        if not self._has_place:
            return [f"# {folder} has all that {self._url} had: push from it what is missing there"]
        return place_lines(folder, self._root)

    def load_commands(self, folder: str) -> list[str]:  # noqa: ARG002
        """There is no server."""
        return []

    def _live(self, place: Place) -> Path:
        if place.destination:
            return Path(os.path.normpath(Path(place.destination).expanduser().absolute()))
        if not self._has_place:
            raise PersonNeeded(
                f"The source {self.name} is the remote {self._url}: nothing is written there.",
                remedy=f"Add `path: FOLDER` to `sources.{self.name}`, where its working clone is "
                "to stand, or restore it alone with --to FOLDER. Push from there what is missing.",
            )
        return self._root

    def _beside(self, place: Place) -> Path:
        return swap.staging(self._live(place), place.token, self.name)

    def _staging(self, place: Place) -> Staging:
        inside = _inside(self._live(place), place, self.name)
        return Staging(inside if inside.exists() else self._beside(place))

    def _moves(self, staging: Staging, live: Path, place: Place) -> list[Move]:
        protected = [one for one in place.protected if one != live and one.is_relative_to(live)]
        if staging.folder.parent != live:
            return exchange.whole(staging.tree, live, place.token, protected)
        old = find(live)
        tracked = exchange.tracked(old) if old is not None else frozenset[bytes]()
        return exchange.entries(staging.tree, live, place.token, protected, tracked)


def _answers(url: str) -> bool:
    remote = environment(remote=True)
    return git("ls-remote", "--", url, environment=remote, accept=range(256)).status == 0


def _inside(live: Path, place: Place, name: str) -> Path:
    return swap.staging(live / exchange.GIT, place.token, name)
