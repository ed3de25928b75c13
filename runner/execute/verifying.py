"""Verify a snapshot as a step asks, and record at that target what it proved."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from runner.errors import StepFailed
from runner.execute.asking import environment_of
from runner.execute.context import Context
from runner.plan.facts import host_name
from runner.plan.model import Step
from runner.prove.levels import Finding, verify
from runner.prove.scratch import scratch_folder
from runner.store.records import Proof, proofs_body, write_record
from runner.store.snapshot import folder_of
from runner.target.protection import protecting, words

# Objects are dated to the second, and locked a moment after they were written.
CLOCK_TOLERANCE = timedelta(seconds=2)


def verified(step: Step, context: Context) -> list[Finding]:
    """What reading the snapshot back showed."""
    spec, params = context.spec, step.params
    target = context.target(params["target"])
    with scratch_folder(spec.state / "scratch", f"{context.token}-{step.id}") as scratch:
        return verify(
            params["level"],
            target,
            spec.project,
            spec.profile,
            params["snapshot"],
            sources=params["sources"],
            sample=params["sample"],
            identities=context.identities,
            open_source=context.source,
            scratch=scratch,
            token=context.token,
            checks=spec.checks,
            environment=environment_of(context, {}),
            progress=context.progress(step),
            signers=context.signers(),
        )


def unlocked(step: Step, context: Context) -> list[str]:
    """What of a snapshot is held shorter than the spec asks for, by the target's own clock."""
    target = context.target(step.params["target"])
    able = protecting(target)
    if able is None:
        return []
    now = target.now()
    folder = folder_of(context.spec.project, context.spec.profile, step.params["snapshot"])
    found = []
    for entry in target.entries(folder):
        wanted = entry.modified + timedelta(seconds=able.lock_seconds or 0.0)
        held = able.held_until(entry.key) if wanted > now else wanted
        if held is None or held < wanted - CLOCK_TOLERANCE:
            name = entry.key.removeprefix(f"{folder}/")
            found.append(f"{name} is {'not locked' if held is None else words(held)}")
    return found


def record(
    target: str,
    profile: str,
    findings: Sequence[Finding],
    context: Context,
    *,
    behind: str | None = None,
) -> StepFailed | None:
    """Write one record for all findings, whatever they say; return why the target takes none.

    `behind` is the place of the last word before them.
    """
    now = datetime.now(UTC)
    last = None if behind is None else datetime.fromisoformat(behind)
    proofs = [
        Proof(
            snapshot=one.snapshot,
            source=one.source,
            target=one.target,
            level=one.level,
            verdict=one.verdict,
            at=now,
            host=host_name(),
            basis=one.basis,
            key=context.key,
            reason=one.reason,
            sample=one.sample,
            behind=last if last is not None and last >= now else None,
        )
        for one in findings
    ]
    try:
        write_record(
            context.target(target),
            context.spec.project,
            profile,
            "proofs",
            proofs_body(proofs),
            now,
        )
    except StepFailed as error:
        return error
    return None
