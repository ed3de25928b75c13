"""Verify a snapshot as a step asks, and record what it proved at that target."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from runner.execute.asking import environment_of
from runner.execute.context import Context
from runner.plan.facts import host_name
from runner.plan.model import Step
from runner.prove.levels import Finding, verify
from runner.prove.scratch import scratch_folder
from runner.store.records import Proof, proofs_body, write_record


def verify_and_record(step: Step, context: Context) -> list[dict[str, Any]]:
    """The findings as JSON. A record is written for all of them, whatever they say."""
    spec, params = context.spec, step.params
    target = context.target(params["target"])
    with scratch_folder(spec.state / "scratch", f"{context.token}-{step.id}") as scratch:
        findings = verify(
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
        )
    _record(step, context, findings)
    return [asdict(one) for one in findings]


def _record(step: Step, context: Context, findings: list[Finding]) -> None:
    spec = context.spec
    now = datetime.now(UTC)
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
        )
        for one in findings
    ]
    target = context.target(step.params["target"])
    write_record(target, spec.project, spec.profile, "proofs", proofs_body(proofs), now)
