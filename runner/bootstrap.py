"""Recovering on a machine that has nothing: a target by its address, and the spec out of it.

Whoever may write to a target can put a snapshot there, and its spec has commands. So the spec is
taken on one of two grounds: a signature of somebody who is known here, or a person who looked at
it and says so by its digest.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runner.durable import write_bytes
from runner.errors import PersonNeeded, StepFailed, UsageError
from runner.execute.call import Call
from runner.plan.choose import LATEST
from runner.plan.facts import Facts, look
from runner.prepare import Choosing
from runner.prove.stored import look as look_at
from runner.prove.stored import require_whole
from runner.registry import open_target
from runner.report.outcome import Outcome
from runner.report.views import listed, row, troubles_of
from runner.secret import Secret
from runner.spec.foreign import (
    commands,
    hands_out_secrets,
    lacking,
    places_outside,
    servers_and_secrets,
    variables,
)
from runner.spec.load import SPEC_NAME, load_spec
from runner.spec.model import DEFAULT_PROFILE, Spec, TargetSpec
from runner.spec.units import parse_time
from runner.store.catalog import Catalog, Snapshot, read_catalog
from runner.store.documents import RUNBOOK_COPY, SPEC_COPY, Document, read_document
from runner.store.signature import Signers
from runner.store.snapshot import Manifest
from runner.target import Target
from runner.target.address import target_at


@dataclass(frozen=True)
class Start:
    """What a person says who has no spec."""

    address: str  # of a target
    folder: Path  # absolute: where the spec is written, and its relative paths start
    project: str = ""  # empty: the only one there is
    allowed_signers: Path | None = None
    confirmed: str = ""  # the sha256 of the spec that they looked at
    asked: tuple[str, ...] = ()  # the flags that say what is to be recovered


def bootstrap(call: Call, start: Start, choosing: Choosing) -> Call:
    """Bring the spec here; return the call that recovers by it, from that target alone.

    Nothing but the spec is written. Raises UsageError where there is nothing to recover, or the
    machine lacks what the spec asks for, and PersonNeeded where somebody must look at the spec.
    """
    origin = _at(start.address)
    manifest, text = _carried(call, origin, start, choosing, SPEC_COPY)
    start, profile = replace(start, project=manifest.project), manifest.profile
    file = _written(start.folder, text)
    begun = replace(
        call,
        file=file,
        profile=profile,
        origin=origin,
        signers=start.allowed_signers,
        unsigned=start.allowed_signers is None,
    )
    spec = load_spec(file, profile, unset="keep", cached=False)
    _require_complete(spec)
    if start.allowed_signers is None:
        _require_confirmed(spec, text, manifest.id, begun, start)
        # So that it goes on by this very spec, also where that is harmless.
        start = replace(start, confirmed=hashlib.sha256(text).hexdigest())
    return replace(begun, again=again(begun, start, profile))


def runbook_at(call: Call, start: Start, choosing: Choosing) -> bytes:
    """The runbook that a snapshot carries at an address; nothing else is needed, or written."""
    return _carried(call, _at(start.address), start, choosing, RUNBOOK_COPY)[1]


def resumed(call: Call, start: Start) -> Call:
    """The call that goes on with a recovery that was begun from an address.

    The spec is the one that was taken then; it was signed, or is confirmed by its digest again.
    """
    origin = target_at(start.address, Path.cwd())
    file = start.folder / SPEC_NAME
    if start.allowed_signers is None:
        digest = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""
        if digest != start.confirmed:
            raise PersonNeeded(
                f"Nobody signed {file}, or confirmed it as it is.",
                remedy=f"Look at it, and give --confirm-spec {digest}",
            )
    begun = replace(
        call,
        file=file,
        origin=origin,
        signers=start.allowed_signers,
        unsigned=start.allowed_signers is None,
    )
    return replace(begun, again=again(begun, start, call.profile or DEFAULT_PROFILE))


def overview(
    address: str,
    *,
    project: str,
    profile: str | None,
    sources: Sequence[str] = (),
    policies: Sequence[str] = (),
) -> Outcome:
    """`list --from`: what a target holds, of whatever project. Raises UsageError if nothing."""
    target, facts = open_target(_at(address)), look()
    rows: list[dict[str, Any]] = []
    troubles: list[str] = []
    for one, other in projects(target):
        if project in ("", one) and profile in (None, other):
            found = _catalog(target, one, other, facts)
            troubles += troubles_of(found)
            rows += [
                {"project": one, "profile": other, **row(each)}
                for each in found.snapshots
                if (not sources or set(sources) & set(each.covers))
                and (not policies or each.policy in policies)
            ]
    if not rows and not troubles:
        raise UsageError(
            f"There are no such snapshots at {target.name}.",
            remedy="Is it the right place? The folder of a project stands right below it.",
        )
    return listed({"snapshots": rows}, troubles)


def projects(target: Target) -> Iterator[tuple[str, str]]:
    """The projects and profiles of which a target holds something."""
    for project in target.folders(""):
        for profile in target.folders(project) if not project.startswith(".") else ():
            if not profile.startswith("."):
                yield project, profile


def again(call: Call, start: Start, profile: str) -> str:
    """The flags that every further line of this recovery needs."""
    words = ["--from", start.address, "--dir", str(start.folder)]
    if profile != DEFAULT_PROFILE:
        words += ["--profile", profile]
    if call.identity is not None:
        words += ["--identity", str(call.identity)]
    if start.allowed_signers is not None:
        words += ["--allowed-signers", str(start.allowed_signers)]
    elif start.confirmed:
        words += ["--confirm-spec", start.confirmed]
    return shlex.join(words)


def _at(address: str) -> TargetSpec:
    """The target at an address. Raises UsageError, also where a folder of this machine is missing:
    what was meant may be the address of something else.
    """
    origin = target_at(address, Path.cwd())
    if origin.type == "local" and not Path(origin.options["path"]).is_dir():
        raise UsageError(
            f"--from: there is no folder {origin.options['path']}.",
            remedy="Is it mounted? What is elsewhere begins with s3://, sftp://, az://, gs:// or "
            "rclone://.",
        )
    return origin


def _carried(
    call: Call, origin: TargetSpec, start: Start, choosing: Choosing, document: Document
) -> tuple[Manifest, bytes]:
    """A document that the chosen snapshot carries, which is whole, and signed if that is asked."""
    target, facts = open_target(origin), look()
    start, profile = _named(target, start, call.profile)
    catalog = _catalog(target, start.project, profile, facts)
    _require_any(catalog, target.name)
    snapshot = _chosen(catalog, choosing, facts)
    folder = look_at(target, start.project, profile, snapshot.id)
    signers = None if start.allowed_signers is None else Signers(start.allowed_signers)
    require_whole(folder, signers)
    identities = _identities(call, folder.manifest)
    return folder.manifest, read_document(target, folder.manifest, document, identities)


def _named(target: Target, start: Start, profile: str | None) -> tuple[Start, str]:
    """The project and the profile that are meant. Raises UsageError, naming what there is."""
    known = list(projects(target))
    fitting = [one for one in known if start.project in ("", one[0]) and profile in (None, one[1])]
    if profile is None and len({one for one, _ in fitting}) == 1:
        fitting = [one for one in fitting if one[1] == DEFAULT_PROFILE] or fitting
    if len(fitting) == 1:
        return replace(start, project=fitting[0][0]), fitting[0][1]
    there = "; ".join(f"--project {one} --profile {other}" for one, other in known)
    raise UsageError(
        f"{'Several projects or profiles' if fitting else 'No project'} at {target.name} "
        f"{'fit' if fitting else 'fits'} what was asked for."
        if known
        else f"There are no snapshots at {target.name}.",
        remedy=f"There: {there}." if known else "Is it the right place? `list --from` looks.",
    )


def _catalog(target: Target, project: str, profile: str, facts: Facts) -> Catalog:
    catalog = read_catalog({target.name: target}, project, profile, cache=None, now=facts.now)
    for why in catalog.unreachable.values():
        raise StepFailed(f"{target.name} cannot be read: {why}")
    return catalog


def _require_any(catalog: Catalog, target: str) -> None:
    """Raise StepFailed where there is a folder of a project, and no snapshot that can be read."""
    if catalog.snapshots:
        return
    why = "; ".join(f"{one} is damaged: {reason}" for _, one, reason in catalog.damaged)
    why = why or "what lies there was never finished"
    raise StepFailed(f"No snapshot at {target} can be read: {why}.", remedy="Give another --from.")


def _chosen(catalog: Catalog, choosing: Choosing, facts: Facts) -> Snapshot:
    """The snapshot whose spec is taken: the newest of those that are asked for."""
    if choosing.at is None or choosing.at == LATEST:
        return catalog.find(choosing.snapshot)
    try:
        at = parse_time(choosing.at, "UTC", facts.now)
    except ValueError as error:
        raise UsageError(f"--at: {error}") from error
    found = next((one for one in catalog.snapshots if one.created_at <= at), None)
    if found is None:
        raise UsageError(f"There is no snapshot that is not after {choosing.at}.")
    return found


def _identities(call: Call, manifest: Manifest) -> list[str]:
    if call.identity is not None:
        return [Secret(f"file:{call.identity}").reveal()]
    if manifest.encrypted:
        raise PersonNeeded(
            f"The snapshot {manifest.id} is encrypted.",
            remedy="Give --identity FILE: the private key of one of its recipients.",
        )
    return []


def _written(folder: Path, text: bytes) -> Path:
    """The spec's file in that folder. Another one that stands there is never overwritten."""
    file = folder / SPEC_NAME
    folder.mkdir(parents=True, exist_ok=True)  # not private: what is restored there may be others'
    try:
        write_bytes(file, text, exclusive=True)
    except FileExistsError:
        if file.read_bytes() != text:
            raise UsageError(
                f"{file} exists, and is not the spec of that snapshot. Nothing was overwritten.",
                remedy="Give an empty --dir, or move that file away.",
            ) from None
    return file


def _require_complete(spec: Spec) -> None:
    """Raise UsageError, naming everything that this machine lacks for a recovery."""
    missing = lacking(spec)
    if missing:
        listed = "".join(f"\n  {one}" for one in missing)
        raise UsageError(
            f"Nothing was begun: {spec.file} asks for what this machine does not have.{listed}",
            remedy="Set these variables and put these files there, then give the same line again.",
        )


def _require_confirmed(spec: Spec, text: bytes, snapshot: str, call: Call, start: Start) -> None:
    """Raise PersonNeeded unless a person confirmed a spec that can do harm, by its digest."""
    digest = hashlib.sha256(text).hexdigest()
    runs, outside = commands(spec), places_outside(spec, start.folder)
    composed = variables(spec)
    harmless = not (runs or outside or composed or hands_out_secrets(spec))
    if start.confirmed == digest or (harmless and not start.confirmed):
        return
    lines = [f"Nobody who is known here signed {snapshot}, and its spec is not confirmed."]
    if start.confirmed:
        lines = [f"--confirm-spec names another spec than that of {snapshot}."]
    for heading, found in (
        ("It would run:", runs),
        (f"It names places outside {start.folder}:", outside),
        ("It names servers, and secrets of this machine:", servers_and_secrets(spec)),
        ("It is put together with variables, of this machine or of the snapshot:", composed),
    ):
        lines += [heading, *(f"  {one}" for one in found)] if found else []
    flags = again(call, replace(start, confirmed=digest), spec.profile)
    words = ["--project", spec.project, *start.asked, "--confirm", spec.project]
    line = f"holdfast dr-restore {flags} {shlex.join(words)}"
    raise PersonNeeded(
        "\n".join(lines),
        remedy=f"Read {os.fspath(spec.file)}. If all of it is yours: {line}",
    )
