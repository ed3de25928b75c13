"""What one snapshot is worth: its proofs, and the instants it speaks for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from runner.store.records import Proof
from runner.store.view import Snapshot, SourceView

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def expected(*sources: str) -> Snapshot:
    return Snapshot.expected(
        id="20260615T120000Z-nightly-000001",
        policy="nightly",
        sequence=1,
        created_at=NOW,
        sources={name: SourceView(NOW - DAY, "files", 1) for name in sources},
        target="disk",
    )


def proof(level: str = "stored", **more: Any) -> Proof:
    known: dict[str, Any] = {
        "snapshot": "20260615T120000Z-nightly-000001",
        "source": "",
        "target": "disk",
        "level": level,
        "verdict": "PASS",
        "at": NOW,
        "host": "harbour",
        "basis": "stored",
    }
    return Proof(**{**known, **more})


def test_it_speaks_for_what_it_holds_and_for_what_it_found_unchanged() -> None:
    one = replace(expected("db"), unchanged={"code": "20260614T120000Z-nightly-000000"})
    assert one.covers == {"db": NOW - DAY, "code": NOW}


def test_the_best_proof_is_the_deepest_pass_that_still_holds() -> None:
    bare = expected("db", "config")

    def best(*proofs: Proof, source: str | None = "db", target: str | None = None) -> str | None:
        found = replace(bare, proofs=proofs).best_proof(source, target=target)
        return None if found is None else f"{found.level} {(found.at - NOW).days}"

    assert best() is None
    assert best(proof(), proof("restored"), proof("readable")) == "restored 0"
    assert best(proof(), proof(at=NOW + DAY)) == "stored 1"
    assert best(proof(verdict="COULD-NOT-VERIFY")) is None
    later: dict[str, Any] = {"verdict": "FAIL", "at": NOW + DAY}
    assert best(proof(), proof("restored"), proof(**later)) is None
    assert best(proof(), proof("restored", **later)) == "stored 0"
    assert best(proof(), proof(target="nas", **later)) == "stored 0"
    assert best(proof(at=NOW + 2 * DAY), proof(**later)) == "stored 2"
    assert best(proof(), target="nas") is None
    both = [proof("restored", source="db"), proof("readable", source="config")]
    assert best(*both, source=None) == "readable 0"
    assert best(both[0], source=None) is None
