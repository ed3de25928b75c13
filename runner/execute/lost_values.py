"""Values of env files that are lost, out of the snapshots that are to bring them back.

A spec may name its databases by variables, and the file that sets them may be lost with
everything else. What is to be recovered, and where, can be told all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from runner.errors import HoldfastError
from runner.execute.session import Session
from runner.prove.artifacts import SnapshotArtifacts
from runner.prove.scratch import scratch_folder
from runner.prove.stored import look as look_at
from runner.prove.stored import own_problems
from runner.registry import open_source
from runner.source import Place, Source
from runner.spec.expand import read_env_file
from runner.spec.foreign import known_paths, waits_for_variables
from runner.spec.model import Options, Spec

_SPECIAL = re.compile(r"([\[*?])")


@dataclass(frozen=True)
class Holder:
    """Where one source of a snapshot lies."""

    source: str
    snapshot: str
    target: str
    profile: str


def sources_of_lost_files(session: Session) -> list[str]:
    """The sources that may hold an env file which is not there."""
    names = [name for file in _lost(session) for name, _ in _covering(session.spec, file)]
    return list(dict.fromkeys(names))


def lost_values(session: Session, holders: Iterable[Holder]) -> dict[str, str]:
    """What the lost env files said. One that nobody holds, or that cannot be opened now, has
    said nothing: whatever needs it tells so.
    """
    values: dict[str, str] = {}
    by_source = {one.source: one for one in holders}
    for file in _lost(session):
        for name, root in _covering(session.spec, file):
            holder = by_source.get(name)
            with suppress(HoldfastError, OSError):
                found = None if holder is None else _read(session, holder, file, root)
                if found is not None:
                    values |= found
                    break
    return values


def _lost(session: Session) -> list[Path]:
    """Those that were not read, if any is missed: all of them where the spec does not stand in its
    place.
    """
    spec, elsewhere = session.spec, session.reload is not None
    lost = [file for file in spec.env_files if elsewhere or not file.exists()]
    return lost if lost and waits_for_variables(spec) else []


def _covering(spec: Spec, file: Path) -> Iterator[tuple[str, Path]]:
    """The sources one of whose places is, or holds, that file; the smallest place first."""
    found = []
    for name in spec.sources:
        with suppress(HoldfastError):  # its own place waits for a variable
            roots = [root for root in _source(spec, name).paths if file.is_relative_to(root)]
            found += [(name, max(roots, key=lambda root: len(root.parts)))] if roots else []
    yield from sorted(found, key=lambda one: -len(one[1].parts))


def _read(session: Session, holder: Holder, file: Path, root: Path) -> dict[str, str] | None:
    """The file's values; None where the snapshot does not have it, or is not to be trusted.
    Leaves nothing behind.
    """
    spec, context = session.spec, session.aside("look")
    source, target = _source(spec, holder.source), session.targets[holder.target]
    folder = look_at(target, spec.project, holder.profile, holder.snapshot)
    if own_problems(folder, context.signers()):
        return None
    artifacts = SnapshotArtifacts(
        target, folder.path, folder.manifest, source.name, context.identities
    )

    def within(place: Path) -> Path:
        return source.placed(root, str(place)) / file.relative_to(root)

    # Its list is short. Only who has the file is read to the end.
    if str(within(Path())) not in {one.name for one in source.contents(artifacts)}:
        return None
    with scratch_folder(spec.state / "scratch", "look") as scratch:
        place = Place(
            token="look",  # noqa: S106 - it names what lies beside, and there is one look alone
            destination=source.scratch_destination(scratch),
            include=(_SPECIAL.sub(r"[\1]", str(within(Path()))),),
            workspace=scratch / "workspace",
            safety=scratch / "safety",
        )
        source.stage(artifacts, place)
        artifacts.finish()
        staged = source.staged(place)
        found = within(Path(staged)) if staged is not None else scratch
        values = read_env_file(found)[0] if found.is_file() else None
        source.discard(place)
    return values


def _source(spec: Spec, name: str) -> Source:
    """A source, which knows no place that waits for one of those very variables."""
    declared = spec.source(name)
    if declared.type == "files" and isinstance(declared.options, Options):
        options = {**declared.options.as_written(), "paths": known_paths(spec, name)}
        declared = replace(declared, options=options)
    return open_source(declared)
