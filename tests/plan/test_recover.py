"""What a recovery takes for a source's content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from runner.errors import StepFailed
from tests.plan.test_cases import CASES, load
from tests.plan.world import World

RECOVERY = next(case for case in CASES if case.name == "dr-restore")


def with_parts(made: World, source: str, parts: Sequence[str]) -> World:
    """A world in whose snapshots one source has these parts alone."""
    manifests = {}
    for name, manifest in made.facts.manifests.items():
        one = manifest.of(source)[0]
        others = [other for other in manifest.artifacts if other.source != source]
        own = [replace(one, part=part, key=f"{source}.{part}.zst") for part in parts]
        manifests[name] = replace(manifest, artifacts=(*others, *own))
    return replace(made, facts=replace(made.facts, manifests=manifests))


def test_content_need_not_be_in_a_main_artifact(tmp_path: Path) -> None:
    parts = ["quay", "harbour", "fingerprint"]
    plan = with_parts(load(RECOVERY, tmp_path), "db", parts).compile()
    assert {one["part"] for one in plan.step("db.stage").params["stored"]} == {
        "quay",
        "harbour",
    }


@pytest.mark.parametrize("parts", [["fingerprint"], []])
def test_a_fingerprint_alone_is_no_content(tmp_path: Path, parts: list[str]) -> None:
    with pytest.raises(StepFailed, match="lists no content of db"):
        with_parts(load(RECOVERY, tmp_path), "db", parts).compile()
