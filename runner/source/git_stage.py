"""Staging a repository: made anew from a snapshot's artifacts, in a folder of its own.

<staging>/tree         the repository, as it will stand at the destination
<staging>/recorded     what was staged, once it is whole (JSON)
<staging>/moves        the swap's record
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner import process
from runner.durable import make_folder, write_bytes
from runner.errors import StepFailed
from runner.process import CommandFailed
from runner.source import Artifacts
from runner.source import git_extras as extras
from runner.source import git_work as work
from runner.source.git_beside import take_along
from runner.source.git_command import Repository, environment, find, git, text
from runner.source.git_fingerprint import fingerprint_of, refs_state
from runner.source.git_refs import Refs, read_bundle, read_refs, without_stashes
from runner.source.git_swap import give


@dataclass(frozen=True)
class Staging:
    """The folder of one stage."""

    folder: Path

    @property
    def tree(self) -> Path:
        """The staged repository."""
        return self.folder / "tree"

    @property
    def record(self) -> Path:
        """The record of the swap's moves."""
        return self.folder / "moves"

    @property
    def recorded(self) -> Path:
        """What was staged; there once it is whole."""
        return self.folder / "recorded"

    def read(self) -> dict[str, Any]:
        """What was staged. Raises StepFailed when nothing is."""
        try:
            found: dict[str, Any] = json.loads(self.recorded.read_bytes())
        except FileNotFoundError as error:
            raise StepFailed(
                f"Nothing whole is staged in {self.folder}.", remedy="Run the restore again."
            ) from error
        return found


def stage(artifacts: Artifacts, found: extras.Extras, staging: Staging, owner: Path | None) -> None:
    """Make the repository of a snapshot; its files belong to whom `owner` belongs, the folder that
    it goes to.
    """
    make_folder(staging.folder)
    bare = found.files["bare"].strip() == b"true"
    listed, pack = read_bundle(artifacts.read())
    tree = staging.tree
    arguments = ["init", "-q", "--template=", f"--object-format={listed.object_format}"]
    git(*arguments, *(["--bare"] if bare else []), "--", tree, environment=environment())
    repository = Repository(tree, tree if bare else tree / ".git", bare)
    if found.has("shallow"):
        (repository.git_dir / "shallow").write_bytes(found.files["shallow"])
    _index_pack(repository, pack)
    _set_refs(repository, without_stashes(listed), found)
    extras.put_back(found, repository.git_dir, staging.folder)
    recorded: dict[str, Any] = {"baseline": [], "work": [], "final": []}
    if not bare:
        recorded = _check_out(repository, artifacts, found)
    recorded["refs"] = refs_state(repository)
    if owner is not None:
        take_along(owner, repository)
        give(itertools.chain([tree], tree.rglob("*")), owner)
    process.run(["sync", "-f", "--", staging.folder])
    write_bytes(staging.recorded, json.dumps(recorded).encode())


def fingerprint(staging: Staging) -> dict[str, Any]:
    """The fingerprint of what is staged, from its own files. Raises StepFailed if it is broken."""
    recorded = staging.read()
    repository = find(staging.tree)
    if repository is None:
        raise StepFailed(f"{staging.tree} is no git repository any more.")
    _check_objects(repository)
    found = {}
    if not repository.bare:
        known = {bytes.fromhex(one) for one in recorded["baseline"]}
        changed = set(work.changed_paths(repository.environment, repository.root)) - known
        for path in changed | {bytes.fromhex(one) for one in recorded["work"]}:
            found[text(path)] = work.describe(staging.tree, path)
    settings = extras.read_settings(repository.git_dir / "config")
    return fingerprint_of(read_refs(repository), settings, bare=repository.bare, uncommitted=found)


def _index_pack(repository: Repository, pack: Iterator[bytes]) -> None:
    with process.feeding(
        ["git", "index-pack", "--stdin"], environment=repository.environment
    ) as stdin:
        for chunk in pack:
            stdin.write(chunk)


def _set_refs(repository: Repository, listed: Refs, found: extras.Extras) -> None:
    asked = repository.environment
    symbolic = dict(line.split(b" ", 1) for line in found.lines("symrefs"))
    updates = [
        b"create %s\0%s\0" % (name, one.encode())
        for name, one in listed.ids.items()
        if name not in symbolic
    ]
    head = found.files["HEAD"].strip()
    git("update-ref", "--no-deref", "-z", "--stdin", stdin=b"".join(updates), environment=asked)
    # A new repository's HEAD is a branch that may be one of these: git sets no two of it at once.
    if head.startswith(b"ref: "):
        git("symbolic-ref", "HEAD", os.fsdecode(head[5:]), environment=asked)
    else:
        git("update-ref", "--no-deref", "HEAD", os.fsdecode(head), environment=asked)
    for name, target in symbolic.items():
        git("symbolic-ref", os.fsdecode(name), os.fsdecode(target), environment=asked)


def _check_out(
    repository: Repository, artifacts: Artifacts, found: extras.Extras
) -> dict[str, Any]:
    """Fill the working tree; what to expect of it, names as hex."""
    asked, root = repository.environment, repository.root
    if read_refs(repository).head_id:
        git("read-tree", "--reset", "-u", "HEAD", environment=asked, folder=root)
    # With some attributes a fresh checkout already counts as changed: that is no difference.
    baseline = work.tracked_changes(asked, root)
    final, done = baseline, list[bytes]()
    if "uncommitted" in artifacts.parts:
        deleted = [one for one in found.files.get("deleted", b"").split(b"\0") if one]
        done = work.put_back(artifacts.read("uncommitted"), deleted, root)
        final = work.tracked_changes(asked, root)
    return {
        "baseline": [one[3:].hex() for one in baseline],
        "work": [one.hex() for one in done],
        "final": [one.hex() for one in final],
    }


def _check_objects(repository: Repository) -> None:
    """Raise StepFailed unless every object is whole and all that refs need is there."""
    asked = repository.environment
    checks = ("fsck", "--no-dangling", "--no-progress")
    outcome = git(*checks, "--full", environment=asked, accept=range(256))
    if outcome.status == 0:
        return
    # Old histories have objects that today's git would not write: then bytes and links decide.
    packs = sorted((repository.git_dir / "objects" / "pack").glob("*.idx"))
    try:
        git("verify-pack", "--", *packs, environment=asked)
        git(*checks, "--connectivity-only", environment=asked)
    except CommandFailed as error:
        if error.local:
            raise
        raise StepFailed(
            f"The restored repository is damaged: {error.message} {outcome.stderr[-500:]}",
            remedy="Restore from another snapshot or target.",
        ) from error
