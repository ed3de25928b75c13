"""The runbook that lies in a snapshot, the recovery from that very one: rendered, and read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runner.execute.session import Session
from runner.plan.choose import Choice
from runner.plan.facts import Facts
from runner.plan.model import Plan
from runner.plan.recover import Wanted, compile_recovery, recovery_entries
from runner.report.markdown import text
from runner.report.runbook import measured, render
from runner.spec.model import Spec
from runner.store.catalog import read_manifest
from runner.store.documents import RUNBOOK_COPY, read_document
from runner.store.records import DrillResult
from runner.store.snapshot import Manifest, SnapshotId, instant
from runner.store.view import Snapshot, SourceView


def stored_runbook(session: Session, wanted: str, target_name: str) -> bytes:
    """The runbook that a snapshot carries, from `target_name`; empty: the first that has it.

    Raises UsageError, StepFailed or PersonNeeded where it cannot be had.
    """
    spec = session.spec
    catalog = session.catalog([target_name] if target_name else ())
    one = catalog.find(wanted)
    target = session.targets[one.targets[0]]
    manifest, _ = read_manifest(target, spec.project, spec.profile, one.id)
    identities = session.aside("runbook").identities() if manifest.encrypted else []
    return read_document(target, manifest, RUNBOOK_COPY, identities)


def runbook_of(
    spec: Spec,
    target: str,
    manifest: Manifest,
    elsewhere: Mapping[str, Manifest],
    drills: Sequence[DrillResult],
) -> str:
    """The runbook of a snapshot at a target. Pure. `elsewhere` are the manifests, by id, that have
    what is unchanged in it; `drills`, the newest first, know how long the steps take.
    """
    plan = _plan(spec, target, manifest, elsewhere)
    return render(spec, plan, measured(plan, drills), about=_about(spec, plan, manifest))


def _plan(spec: Spec, target: str, manifest: Manifest, elsewhere: Mapping[str, Manifest]) -> Plan:
    choices = []
    for name in recovery_entries(spec, (), None):
        holder = (
            manifest
            if name in manifest.sources
            else elsewhere.get(manifest.unchanged.get(name, ""))
        )
        if holder is not None and name in holder.sources:
            choices.append(Choice(name, _view(holder, target), target, "it lies in this snapshot"))
    facts = Facts(
        now=instant(manifest.created_at),
        token=SnapshotId.parse(manifest.id).token,
        host=manifest.host,
        manifests={manifest.id: manifest, **elsewhere},
    )
    return compile_recovery(spec, facts, Wanted("dr-restore", choices, manifest.profile))


def _view(manifest: Manifest, target: str) -> Snapshot:
    sources = {
        name: SourceView(instant(entry.taken_at), entry.type, 0)
        for name, entry in manifest.sources.items()
    }
    return Snapshot.expected(
        id=manifest.id,
        policy=manifest.policy,
        sequence=manifest.sequence,
        created_at=instant(manifest.created_at),
        sources=sources,
        target=target,
    )


def _about(spec: Spec, plan: Plan, manifest: Manifest) -> list[str]:
    """What is to be known of a runbook that lies in a snapshot."""
    needed = sorted(set(plan.facts["snapshots"].values()) | {manifest.id})
    lines = [
        (
            f"This runbook lies in the snapshot {manifest.id}, made on {text(manifest.host)}. If "
            "you have its folder at hand, from whatever target, copy it below RECOVERY under its "
            "name: nothing is fetched then."
        )
    ]
    others = [name for name in needed if name != manifest.id]
    if others:
        lines.append(f"What did not change lies in {', '.join(others)}: that is needed, too.")
    absent = [name for name in spec.sources if name not in plan.facts["snapshots"]]
    if absent:
        lines.append(
            f"Not in it: {', '.join(map(text, absent))}. The newest snapshot of each has its own "
            "runbook."
        )
    return lines
