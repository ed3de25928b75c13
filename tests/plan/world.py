"""What a compiler is given, read from JSON: facts, and a catalog of snapshots that never were."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from runner.plan.backup import Wanted as WantedBackup
from runner.plan.backup import compile_backup
from runner.plan.choose import Asked, choose
from runner.plan.due import last_marks, wanted_policies
from runner.plan.facts import Facts
from runner.plan.model import Plan
from runner.plan.prune import compile_prune
from runner.plan.recover import Wanted, compile_recovery, recovery_entries
from runner.plan.verify import compile_verify
from runner.spec.model import Spec
from runner.store.catalog import Catalog, Snapshot, SourceView
from runner.store.records import Proof
from runner.store.snapshot import ArtifactEntry, Manifest, SourceEntry

# The parts and forms of each type's artifacts.
PARTS = {
    "sqlite": [("", "sqlite"), ("schema", "sql"), ("fingerprint", "json")],
    "files": [("", "tar"), ("entries", "json"), ("fingerprint", "json")],
    "git": [("", "bundle"), ("config", "tar"), ("fingerprint", "json")],
    "postgres": [("", "pgdump"), ("fingerprint", "json")],
    "redis": [("", "rdb"), ("acl", "json"), ("fingerprint", "json")],
}


@dataclass(frozen=True)
class World:
    """Everything that a plan is made from."""

    spec: Spec
    facts: Facts
    catalog: Catalog
    ask: Mapping[str, Any]  # `kind`, and what a user says with the command

    def compile(self) -> Plan:
        """The plan of what is asked, made by the compilers alone."""
        kind = self.ask["kind"]
        if kind == "backup":
            return self._backup()
        if kind == "prune":
            return compile_prune(self.spec, self.facts, self.catalog)
        if kind == "verify":
            more = {key: value for key, value in self.ask.items() if key != "kind"}
            return compile_verify(self.spec, self.catalog, **more)
        return self._recovery(kind)

    def _backup(self) -> Plan:
        spec, now = self.spec, self.facts.now
        names = self.ask.get("policies", ())
        dues = wanted_policies(spec, self.catalog, now, names, only_due=self.ask.get("due", False))
        marks = {
            (one, name): mark
            for one, manifest in self.facts.manifests.items()
            for name, entry in manifest.sources.items()
            if (mark := entry.mark) is not None
        }
        lazy = [due.policy for due in dues if due.policy.skip_unchanged]
        sources = self.ask.get("sources", ())
        chosen = [spec.policy(name) for name in names] or list(spec.policies.values())
        known = last_marks(self.catalog, lazy, marks)
        wanted = WantedBackup(dues, sources, True, known, [] if sources else chosen)
        return compile_backup(spec, self.facts, self.catalog, wanted)

    def _recovery(self, kind: str) -> Plan:
        spec = self.spec
        one = self.ask.get("source")
        sources = [one] if one else recovery_entries(spec, (), None)
        at = self.ask.get("at")
        asked = Asked(
            self.ask.get("snapshot", "latest"),
            datetime.fromisoformat(at) if at else None,
            self.ask.get("target"),
        )
        wanted = Wanted(
            kind,
            choose(spec, self.catalog, sources, asked),
            spec.profile,
            scratch=Path("/scratch") if kind == "drill" else None,
            destination=self.ask.get("to", ""),
            include=tuple(self.ask.get("include", ())),
        )
        return compile_recovery(spec, self.facts, wanted)


def world(spec: Spec, document: Mapping[str, Any]) -> World:
    """A world from a case's JSON."""
    manifests = [_manifest(spec, one) for one in document.get("snapshots", ())]
    snapshots = [
        _snapshot(manifest, one["targets"], one.get("proven"))
        for manifest, one in zip(manifests, document.get("snapshots", ()), strict=True)
    ]
    facts = Facts(
        now=datetime.fromisoformat(document["now"]),
        token=document["token"],
        host=document["host"],
        identities=document.get("identities", {}),
        marks=document.get("marks", {}),
        manifests={one.id: one for one in manifests},
    )
    newest_first = sorted(snapshots, key=lambda one: -one.sequence)
    catalog = Catalog(tuple(newest_first), unreachable=document.get("unreachable", {}))
    return World(spec, facts, catalog, document["ask"])


def _manifest(spec: Spec, one: Mapping[str, Any]) -> Manifest:
    at = datetime.fromisoformat(one["at"])
    stamp = at.isoformat().replace("+00:00", "Z")
    artifacts = []
    for name in one["sources"]:
        for part, form in PARTS[spec.source(name).type]:
            key = ".".join(piece for piece in (name, part, form, "zst") if piece)
            digest = hashlib.sha256(f"{key} {stamp}".encode()).hexdigest()
            artifacts.append(
                ArtifactEntry(name, part, form, key, stamp, 1000, digest, 3000, digest)
            )
    return Manifest(
        id=f"{at:%Y%m%dT%H%M%SZ}-{one['policy']}-{one['token']}",
        project=spec.project,
        profile=spec.profile,
        policy=one["policy"],
        sequence=one["sequence"],
        created_at=stamp,
        host="harbour",
        holdfast="0.1.0",
        spec_digest="5" * 64,
        sources={
            name: SourceEntry(spec.source(name).type, stamp, mark=one.get("marks", {}).get(name))
            for name in one["sources"]
        },
        artifacts=tuple(artifacts),
        files=(),
        missing=tuple(one.get("missing", ())),
        unchanged=one.get("unchanged", {}),
    )


def _snapshot(manifest: Manifest, targets: list[str], level: str | None) -> Snapshot:
    at = datetime.fromisoformat(manifest.created_at)
    proven = [(name, target) for name in manifest.sources for target in targets if level]
    proofs = [
        Proof(manifest.id, name, target, level or "", "PASS", at, "harbour", "stored", "none", "")
        for name, target in proven
    ]
    return Snapshot(
        id=manifest.id,
        policy=manifest.policy,
        sequence=manifest.sequence,
        created_at=at,
        sources={
            name: SourceView(at, entry.type, 3000) for name, entry in manifest.sources.items()
        },
        missing=manifest.missing,
        unchanged=manifest.unchanged,
        bases=frozenset(),
        bytes=sum(one.bytes for one in manifest.artifacts),
        encrypted=False,
        host=manifest.host,
        spec_digest=manifest.spec_digest,
        manifest_sha256=hashlib.sha256(manifest.to_bytes()).hexdigest(),
        predecessor=None,
        targets=tuple(targets),
        proofs=tuple(proofs),
    )
