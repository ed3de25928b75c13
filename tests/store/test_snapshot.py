"""Ids, manifests and sums: what is read is what was written, or it is refused."""

from __future__ import annotations

import json
import string
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import StepFailed, UsageError
from runner.store.snapshot import Manifest, SnapshotId, StoredFile, folder_of, sums
from tests.store.builders import PROFILE, PROJECT, Recipe, make


def test_an_id_says_when_and_of_which_policy() -> None:
    found = SnapshotId.parse("20261120T021500Z-nightly-7f3a9c")
    assert found == SnapshotId(datetime(2026, 11, 20, 2, 15, tzinfo=UTC), "nightly", "7f3a9c")
    assert str(found) == "20261120T021500Z-nightly-7f3a9c"


@given(
    st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1)),
    st.from_regex(r"[a-z0-9][a-z0-9_-]{0,62}", fullmatch=True),
    st.text(string.digits + "abcdef", min_size=6, max_size=6),
)
def test_every_id_reads_back(at: datetime, policy: str, token: str) -> None:
    written = SnapshotId(at.replace(microsecond=0, tzinfo=UTC), policy, token)
    assert SnapshotId.parse(str(written)) == written
    assert SnapshotId.fits(str(written))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "latest",
        "../../etc/passwd",
        "20261120T021500Z-nightly-7f3a9c/..",
        "20261120T021500Z-nightly-7f3a9c\n",
        "20261120T021500Z-../x-7f3a9c",
        "20261399T021500Z-nightly-7f3a9c",
        "20261120T021500Z-Nightly-7f3a9c",
        "20261120T021500Z-nightly-7f3a9",
        "２0261120T021500Z-nightly-7f3a9c",
    ],
)
def test_what_is_no_id_never_gets_into_a_path(text: str) -> None:
    with pytest.raises(UsageError):
        folder_of(PROJECT, PROFILE, text)


def test_a_manifest_reads_back() -> None:
    made = make(
        Recipe(
            missing=("cache",),
            unchanged={"code": "20251231T021500Z-nightly-000000"},
            bases={"db": "20251231T021500Z-nightly-000000"},
            predecessor={"id": "20251231T021500Z-nightly-000000", "sha256": "0" * 64},
        )
    )
    assert Manifest.from_bytes(made.data) == made.manifest


def test_the_fingerprint_is_the_last_of_a_sources_artifacts() -> None:
    assert [one.part for one in make(Recipe()).manifest.of("db")] == ["", "fingerprint"]


def test_its_sums_are_what_sha256sum_checks(tmp_path: Path) -> None:
    made = make(Recipe()).write(tmp_path)
    folder = tmp_path / folder_of(PROJECT, PROFILE, made.id)
    done = subprocess.run(
        ["sha256sum", "--strict", "-c", "SHA256SUMS"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    names = {line.partition(":")[0] for line in done.stdout.splitlines()}
    assert names == {one.name for one in folder.iterdir()} - {"SHA256SUMS"}
    assert sums(made.manifest, made.data) == (folder / "SHA256SUMS").read_bytes()


def test_a_manifest_that_is_too_large_is_refused_with_a_remedy() -> None:
    many = tuple(StoredFile(f"file{number}", 1, "0" * 64) for number in range(10_000))
    with pytest.raises(StepFailed, match="more than 1048576"):
        replace(make(Recipe()).manifest, files=many).to_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"id": "../../etc"},
        {"id": 7},
        {"sequence": "7"},
        {"created_at": "yesterday"},
        {"created_at": "2026-11-20T02:15:00"},
        {"sources": []},
        {"sources": {"db": {"type": "files"}}},
        {"artifacts": [{}]},
        {"artifacts": {"a": 1}},
        {"files": [{"key": "../x", "bytes": 1, "sha256": "0"}]},
        {"files": [{"key": "-x", "bytes": 1, "sha256": "0"}]},
        {"files": [{"key": "manifest.json", "bytes": 1, "sha256": "0"}]},
        {"files": [{"key": "x", "bytes": "many", "sha256": "0"}]},
        {"missing": [1]},
        {"unchanged": {"db": None}},
        {"predecessor": "that one"},
        {"surprise": 1},
    ],
)
def test_what_is_no_whole_manifest_is_refused(change: dict[str, Any]) -> None:
    document = {**json.loads(make(Recipe()).data), **change}
    with pytest.raises(ValueError):
        Manifest.from_bytes(json.dumps(document).encode())


@given(st.binary(max_size=200) | st.integers(0, 2000).map(lambda n: make(Recipe()).data[: -n - 3]))
def test_a_cut_or_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        Manifest.from_bytes(data)


@pytest.mark.parametrize("change", [{"format": 2}, {"later": {"a": 1}}], ids=["format", "key"])
def test_what_a_newer_version_wrote_is_not_called_damage_to_be_removed(
    change: dict[str, Any],
) -> None:
    document = json.loads(make(Recipe()).data) | change
    with pytest.raises(ValueError, match="a newer Holdfast may have written it") as refused:
        Manifest.from_bytes(json.dumps(document).encode())
    assert "__init__" not in str(refused.value)
