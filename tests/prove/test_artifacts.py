"""What a restore reads is what was captured, or the reading fails."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import PersonNeeded
from runner.prove.artifacts import fingerprint_document
from runner.store.seal import Damaged, Seal, Sealed, keygen
from runner.store.snapshot import FINGERPRINT
from tests.prove.small import Snapshot, flipped, positions

texts = st.text(st.characters(), max_size=5)
fingerprints = st.dictionaries(
    texts, st.recursive(texts | st.integers() | st.none(), lambda one: st.lists(one, max_size=2))
)


@given(fingerprints)
def test_the_document_brings_any_fingerprint_back(fingerprint: dict[str, Any]) -> None:
    fingerprint["a name with undecodable bytes \udcff"] = "\ud800"
    sealed = {"db.sqlite.zst": Sealed("db.sqlite.zst", 10, "0" * 64, 20, "1" * 64)}
    document = json.loads(fingerprint_document("db", "sqlite", fingerprint, sealed))
    assert document == {
        "format": 1,
        "source": "db",
        "type": "sqlite",
        "fingerprint": fingerprint,
        "artifacts": {"db.sqlite.zst": {"bytes": 20, "sha256": "1" * 64}},
    }


def test_reads_what_was_captured(tmp_path: Path) -> None:
    artifacts = Snapshot(tmp_path).artifacts("config")
    assert "" in artifacts.parts
    assert FINGERPRINT not in artifacts.parts
    assert b"port: 8080" in b"".join(artifacts.read())
    assert artifacts.checked == {"", FINGERPRINT}
    assert artifacts.finish() > 0
    assert artifacts.checked == {*artifacts.parts, FINGERPRINT}
    assert artifacts.finish() == 0


def test_reading_is_not_checked_before_its_end(tmp_path: Path) -> None:
    artifacts = Snapshot(tmp_path).artifacts("config")
    begun = artifacts.read()
    next(begun)
    begun.close()  # type: ignore[attr-defined]
    assert "" not in artifacts.checked


@pytest.mark.parametrize("encrypted", [False, True])
def test_damage_anywhere_in_an_artifact_is_seen(tmp_path: Path, encrypted: bool) -> None:
    identity, recipient = keygen() if encrypted else ("", "")
    seal = Seal("zstd", (recipient,) if encrypted else ())
    snapshot = Snapshot(tmp_path, seal, identity or None)
    for entry in snapshot.manifest.of("config"):
        path = snapshot.folder / entry.key
        whole = path.read_bytes()
        for position in positions(len(whole), 17):
            flipped(path, position)
            with pytest.raises(Damaged):
                snapshot.artifacts("config").finish()
            path.write_bytes(whole)
        path.write_bytes(whole[:-1])
        with pytest.raises(Damaged):
            snapshot.artifacts("config").finish()
        path.write_bytes(whole)
    assert snapshot.artifacts("config").finish() > 0


@pytest.mark.parametrize(("number", "compared_later"), [(0, False), (1, False), (1, True)])
def test_content_that_was_exchanged_with_its_stored_hash_is_seen(
    tmp_path: Path, number: int, compared_later: bool
) -> None:
    """Yesterday's archive under today's name, with a manifest made to fit. What is compared with
    the fingerprint later is the main part alone.
    """
    identity, recipient = keygen()
    snapshot = Snapshot(tmp_path, Seal("zstd", (recipient,)), identity)
    real, other = (snapshot.manifest.of(name)[number] for name in ("config", "notes"))
    (snapshot.folder / real.key).write_bytes((snapshot.folder / other.key).read_bytes())
    forged = replace(real, bytes=other.bytes, sha256=other.sha256)
    snapshot.change_manifest(
        artifacts=tuple(forged if one == real else one for one in snapshot.manifest.artifacts)
    )
    artifacts = snapshot.artifacts("config", compared_later=compared_later)
    with pytest.raises(Damaged, match="not what was captured"):
        b"".join(artifacts.read(real.part))


def test_what_is_restored_is_told_by_its_head_but_the_fingerprint_by_all_of_it(
    tmp_path: Path,
) -> None:
    """Somebody who has the identity may write other content behind the same head. That of the
    fingerprint, which all other content is compared with, must not be believed then.
    """
    identity, recipient = keygen()
    snapshot = Snapshot(tmp_path, Seal("none", (recipient,)), identity)
    (tmp_path / "live" / "config" / "large").write_bytes(bytes(2 << 20))
    snapshot.publish(["config"], lambda document: document | {"more": "x" * (2 << 20)})
    main, *_, fingerprint = snapshot.manifest.of("config")
    assert main.head_sha256
    assert fingerprint.head_sha256
    for entry, suspect in (main, "content"), (fingerprint, "sha256"):
        wrong = replace(entry, sha256="0" * 64)
        snapshot.change_manifest(
            artifacts=tuple(wrong if one == entry else one for one in snapshot.manifest.artifacts)
        )
        reading = snapshot.artifacts("config", restoring=True)
        if suspect == "content":
            assert reading.finish() > 0
        else:
            with pytest.raises(Damaged, match=suspect):
                reading.finish()
        with pytest.raises(Damaged, match="its sha256 is not that"):
            snapshot.artifacts("config").finish()
        back = tuple(entry if one == wrong else one for one in snapshot.manifest.artifacts)
        snapshot.change_manifest(artifacts=back)


def test_a_manifest_that_is_wrong_about_the_content_is_seen(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path)
    main = snapshot.manifest.of("config")[0]
    wrong = replace(main, content_sha256="0" * 64)
    snapshot.change_manifest(
        artifacts=tuple(wrong if one == main else one for one in snapshot.manifest.artifacts)
    )
    with pytest.raises(Damaged, match="not what was captured"):
        snapshot.artifacts("config").finish()


def test_an_artifact_that_one_of_both_lists_leaves_out_is_seen(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path)
    with pytest.raises(Damaged, match="lists no such artifact"):
        next(iter(snapshot.artifacts("config").read("unheard-of")))
    main = snapshot.manifest.of("config")[0]
    rest = tuple(one for one in snapshot.manifest.artifacts if one != main)
    snapshot.change_manifest(artifacts=rest)
    with pytest.raises(Damaged, match="lists no such artifact"):
        snapshot.artifacts("config").finish()
    snapshot.publish(["config"], lambda document: {**document, "artifacts": {}})
    with pytest.raises(Damaged, match="knows nothing of it"):
        b"".join(snapshot.artifacts("config").read())


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"source": "notes"},
        {"fingerprint": None},
        {"artifacts": []},
        {"artifacts": {"config.tar.zst": {"bytes": "1"}}},
    ],
)
def test_a_document_that_is_none_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    snapshot = Snapshot(tmp_path)
    snapshot.publish(["config"], lambda document: document | change)
    with pytest.raises(Damaged, match="no fingerprint of config"):
        _ = snapshot.artifacts("config").fingerprint


def test_identities_are_asked_for_only_when_something_is_encrypted(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path / "plain")
    snapshot.identities = lambda: pytest.fail("nothing is encrypted")  # type: ignore[method-assign]
    assert snapshot.artifacts("config").finish() > 0
    _, recipient = keygen()
    blind = Snapshot(tmp_path / "blind", Seal("gzip", (recipient,)))
    with pytest.raises(PersonNeeded):
        _ = blind.artifacts("config").fingerprint
    blind.identity = keygen()[0]
    with pytest.raises(PersonNeeded, match="opens"):
        _ = blind.artifacts("config").fingerprint
