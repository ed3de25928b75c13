"""Verification says PASS only of what is as it was, and says of everything else what is wrong."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.errors import Interrupted, PersonNeeded, StepFailed, UsageError
from runner.prove.levels import verify
from runner.prove.stored import BIG, left_out, look
from runner.source import Place
from runner.source.files import FilesSource
from runner.spec.model import Probe
from runner.store.seal import Seal, keygen
from runner.store.snapshot import INSTRUCTIONS, MANIFEST, SUMS
from runner.target.local import LocalTarget
from tests.prove.small import ID, PROFILE, PROJECT, TOKEN, Snapshot, flipped, positions

PASS, FAIL, SKIP, UNKNOWN = "PASS", "FAIL", "SKIP", "COULD-NOT-VERIFY"
ABSENT = {"cache": SKIP, "code": SKIP}
LEVELS = ("stored", "readable", "restored")


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return Snapshot(tmp_path)


@pytest.fixture
def encrypted(tmp_path: Path) -> Snapshot:
    identity, recipient = keygen()
    return Snapshot(tmp_path, Seal("zstd", (recipient,)), identity)


def main_of(snapshot: Snapshot, source: str) -> Path:
    return snapshot.folder / snapshot.manifest.of(source)[0].key


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("kind", ["snapshot", "encrypted"])
def test_a_whole_snapshot_passes_and_leaves_nothing_behind(
    level: str, kind: str, request: pytest.FixtureRequest
) -> None:
    snapshot: Snapshot = request.getfixturevalue(kind)
    shutil.rmtree(snapshot.root / "live")
    before = {path: path.read_bytes() for path in snapshot.files}
    findings = snapshot.verify(level)
    assert {one.source: one.verdict for one in findings} == {"config": PASS, "notes": PASS} | ABSENT
    assert {(one.snapshot, one.target, one.level) for one in findings} == {(ID, "disk", level)}
    assert findings[0].basis == ("source" if level == "restored" else "stored")
    assert {path: path.read_bytes() for path in snapshot.files} == before
    scratch = snapshot.root / "scratch"
    assert not scratch.exists() or list(scratch.iterdir()) == []
    assert not (snapshot.root / "live").exists()


def test_only_what_is_asked_for_is_looked_at(snapshot: Snapshot) -> None:
    main_of(snapshot, "notes").unlink()
    assert snapshot.verdicts("stored", sources=["config"]) == {"config": PASS}
    assert snapshot.verdicts("stored", sources=["web", "code"]) == {"web": UNKNOWN, "code": SKIP}


def is_found(snapshot: Snapshot, path: Path) -> bool:
    """Whether nothing green remains of what the damaged file belongs to."""
    verdicts = snapshot.verdicts("stored")
    if path.name in (MANIFEST, SUMS, INSTRUCTIONS):
        return set(verdicts.values()) == {FAIL}
    hit = path.name.partition(".")[0]
    other = "notes" if hit == "config" else "config"
    return verdicts == {hit: FAIL, other: PASS} | ABSENT


def damaged_everywhere(snapshot: Snapshot, step: int) -> None:
    for path in snapshot.files:
        whole = path.read_bytes()
        for position in positions(len(whole), step):
            flipped(path, position)
            assert is_found(snapshot, path), f"{path.name}: a flip at {position}"
            path.write_bytes(whole)
        for length in positions(len(whole), step):
            path.write_bytes(whole[:length])
            assert is_found(snapshot, path), f"{path.name}: cut to {length}"
        path.write_bytes(whole + b"\0")
        assert is_found(snapshot, path), f"{path.name}: a byte more"
        path.write_bytes(whole)
    assert FAIL not in snapshot.verdicts("stored").values()


def test_a_flip_or_a_cut_in_any_file_is_found(encrypted: Snapshot) -> None:
    assert len(encrypted.files) >= 7
    damaged_everywhere(encrypted, 61)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["snapshot", "encrypted"])
def test_a_flip_or_a_cut_at_every_single_place_of_any_file_is_found(
    kind: str, request: pytest.FixtureRequest
) -> None:
    damaged_everywhere(request.getfixturevalue(kind), 1)


@pytest.mark.parametrize("level", LEVELS)
def test_a_missing_file_is_found_at_every_level(snapshot: Snapshot, level: str) -> None:
    for path in snapshot.files:
        whole = path.read_bytes()
        path.unlink()
        verdicts = snapshot.verdicts(level, sources=["config", "notes"])
        if path.name.startswith(("config.", "notes.")):
            hit = path.name.partition(".")[0]
            assert verdicts == {"config": PASS, "notes": PASS} | {hit: FAIL}
        else:
            assert set(verdicts.values()) == {FAIL}
        path.write_bytes(whole)


@pytest.mark.parametrize("level", ["readable", "restored"])
def test_damage_is_found_at_the_deeper_levels_too(encrypted: Snapshot, level: str) -> None:
    for entry in encrypted.manifest.of("config"):
        path = encrypted.folder / entry.key
        whole = path.read_bytes()
        flipped(path, len(whole) // 2)
        assert encrypted.verdicts(level) == {"config": FAIL, "notes": PASS} | ABSENT
        path.write_bytes(whole)


@pytest.mark.parametrize(
    "change", [{"id": f"{ID[:-1]}d"}, {"project": "other"}, {"profile": "x"}, {"policy": "weekly"}]
)
def test_a_manifest_of_another_snapshot_is_found(
    snapshot: Snapshot, change: dict[str, Any]
) -> None:
    snapshot.change_manifest(**change)
    assert set(snapshot.verdicts("stored", sources=["config"]).values()) == {FAIL}


@pytest.mark.parametrize(
    "text",
    [b"", b"[" * 60_000, b"x" * 100_000, b'{"format": 1, "artifacts": [{"key": 5}]}', b"\xff"],
)
def test_whatever_lies_there_for_a_manifest_is_a_finding(snapshot: Snapshot, text: bytes) -> None:
    (snapshot.folder / MANIFEST).write_bytes(text)
    assert snapshot.verdicts("restored") == {"": FAIL}


def test_a_manifest_whose_sources_and_artifacts_disagree_is_found(snapshot: Snapshot) -> None:
    described = {"config": snapshot.manifest.sources["config"]}
    snapshot.change_manifest(sources=described)
    assert snapshot.verdicts("stored")["notes"] == FAIL
    only = tuple(snapshot.manifest.of("config"))
    snapshot.change_manifest(sources={**described, "notes": described["config"]}, artifacts=only)
    assert snapshot.verdicts("stored")["notes"] == UNKNOWN


def test_strangers_are_told_and_fail_only_where_they_could_be_mistaken(snapshot: Snapshot) -> None:
    (snapshot.folder / "restored" / "config").mkdir(parents=True)
    (snapshot.folder / "restored" / "config" / "a").write_text("a")
    (snapshot.folder / "SHA256SUMS.sig").write_text("signed")
    first, *_ = snapshot.verify("stored")
    assert (first.source, first.verdict) == ("", SKIP)
    assert first.reason.endswith("no part of the snapshot: restored")
    (snapshot.folder / "config.tar").write_text("looks like it")
    assert snapshot.verdicts("readable") == {"": SKIP, "config": FAIL, "notes": PASS} | ABSENT


def test_a_sample_reads_small_files_and_some_of_the_big_ones(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path)
    big = tuple(
        replace(snapshot.manifest.artifacts[0], part=f"{n}", key=f"config.{n}.tar", bytes=BIG + n)
        for n in range(1, 11)
    )
    snapshot.change_manifest(artifacts=(*snapshot.manifest.artifacts, *big))
    folder = look(snapshot.target, PROJECT, PROFILE, ID)
    keys = {one.key for one in big}
    assert left_out(folder, 1.0, "run") == frozenset()
    assert len(left_out(folder, 0.3, "run")) == 7
    assert len(left_out(folder, 0.0001, "run")) == 9, "one of them is always read"
    assert left_out(folder, 0.3, "run") == left_out(folder, 0.3, "run") < keys
    runs = [left_out(folder, 0.3, f"run {number}") for number in range(30)]
    assert frozenset.intersection(*runs) == frozenset(), "sooner or later each one is read"


def test_what_a_sample_left_out_is_not_called_verified(tmp_path: Path) -> None:
    snapshot = Snapshot(tmp_path, Seal("none"))
    for name in ("config", "notes"):
        (tmp_path / "live" / name / "big").write_bytes(bytes(range(256)) * 8 * 1024)
    snapshot.publish(["config", "notes"])
    verdicts = snapshot.verdicts("stored", sample=0.1)
    assert sorted(verdicts[name] for name in ("config", "notes")) == [PASS, SKIP]
    unread = next(name for name in ("config", "notes") if verdicts[name] == SKIP)
    told = {one.source: one.sample for one in snapshot.verify("stored", sample=0.1)}
    for name, sample in ((unread, told[unread]), ("notes", told["notes"])):
        assert sample is not None
        assert (sample.share, sample.draw) == (0.1, TOKEN)
        keys = {one.key for one in snapshot.manifest.of(name)}
        assert {*sample.read, *sample.unread} == keys
        assert bool(sample.unread) == (name == unread)
    assert {one.sample for one in snapshot.verify("stored")} == {None}
    main_of(snapshot, unread).write_bytes(b"cut")
    assert snapshot.verdicts("stored", sample=0.1)[unread] == FAIL
    assert snapshot.verdicts("readable", sample=0.1)[unread] == FAIL


@pytest.mark.parametrize("level", ["readable", "restored"])
def test_without_an_identity_nothing_encrypted_passes(encrypted: Snapshot, level: str) -> None:
    def undeclared() -> Sequence[str]:
        raise PersonNeeded("No identity is declared.", remedy="Give --identity.")

    def unset() -> Sequence[str]:
        raise UsageError("The secret env:KEY is not set.")

    def wrong() -> Sequence[str]:
        return [keygen()[0]]

    flipped(main_of(encrypted, "notes"), 300)
    for identities in (undeclared, unset, wrong):
        found = encrypted.verify(level, identities=identities)
        assert {one.source: one.verdict for one in found} == {
            "config": UNKNOWN,
            "notes": FAIL,  # damage is seen without any key
        } | ABSENT
    assert encrypted.verdicts("stored", identities=undeclared)["config"] == PASS


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


class Wayward(FilesSource):
    """A source with a fault of one kind."""

    error: Exception | None = None

    def stage(self, artifacts: Any, place: Place) -> None:
        if self.name == "config" and self.error is not None:
            raise self.error
        super().stage(artifacts, place)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (StepFailed("the tar is odd"), FAIL),
        (PersonNeeded("a person must look"), UNKNOWN),
        (UsageError("there is no source `config` any more"), UNKNOWN),
        (OSError(28, "No space left on device"), UNKNOWN),
        (StepFailed("the disk is too small", local=True), UNKNOWN),
        (caused(StepFailed("it cannot be written"), OSError(30, "read-only")), UNKNOWN),
    ],
)
def test_one_source_s_trouble_hides_no_other(
    snapshot: Snapshot, error: Exception, verdict: str
) -> None:
    def open_source(name: str) -> FilesSource:
        source = Wayward(snapshot.spec(name))
        source.error = error
        return source

    found = {one.source: one for one in snapshot.verify("restored", open_source=open_source)}
    assert found["config"].verdict == verdict
    # The copy is as it was written, whatever its restore does.
    assert (verdict, found["config"].basis) in ((FAIL, "source"), (UNKNOWN, "stored"))
    assert str(error).partition("] ")[2] in found["config"].reason
    assert found["notes"].verdict == PASS
    assert list((snapshot.root / "scratch").iterdir()) == []


def test_too_little_memory_is_told_in_words(snapshot: Snapshot) -> None:
    def open_source(name: str) -> FilesSource:
        source = Wayward(snapshot.spec(name))
        source.error = MemoryError()
        return source

    found = {one.source: one for one in snapshot.verify("restored", open_source=open_source)}
    assert found["config"].verdict == UNKNOWN
    assert "There is not enough memory." in found["config"].reason
    assert found["notes"].verdict == PASS


class Cut(LocalTarget):
    """A target whose connection is cut while one file is read, once."""

    calls = 0

    def get(self, key: str, **options: Any) -> Iterator[bytes]:
        if "/config.tar" in key:
            self.calls += 1
            if self.calls == 1:
                raise StepFailed("The connection is cut.")
        return super().get(key, **options)


def test_a_cut_connection_says_nothing_of_the_copy(snapshot: Snapshot) -> None:
    target = Cut("disk", snapshot.root / "backups")
    given: dict[str, Any] = {
        "identities": snapshot.identities,
        "open_source": snapshot.source,
        "scratch": snapshot.root / "scratch",
        "token": TOKEN,
    }
    found = {one.source: one for one in verify("restored", target, PROJECT, PROFILE, ID, **given)}
    assert found["config"].verdict == UNKNOWN
    assert "The connection is cut." in found["config"].reason
    assert found["notes"].verdict == PASS


def test_a_run_that_is_stopped_concludes_nothing(snapshot: Snapshot) -> None:
    """What it started was killed: that is no word about the copy."""
    stopped = []

    def open_source(name: str) -> FilesSource:
        stopped.append(name)
        raise StepFailed("git was ended by signal 15")

    def progress(_bytes: int) -> None:
        if stopped:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        snapshot.verify("restored", open_source=open_source, progress=progress)


@pytest.mark.parametrize("error", [Interrupted("stopped"), ZeroDivisionError("a bug")])
def test_a_stop_and_a_bug_go_on(snapshot: Snapshot, error: Exception) -> None:
    def open_source(name: str) -> FilesSource:
        raise error

    with pytest.raises(type(error)):
        snapshot.verify("restored", open_source=open_source)
    assert list((snapshot.root / "scratch").iterdir()) == []


def test_content_that_is_not_what_the_fingerprint_says_fails(snapshot: Snapshot) -> None:
    """Every byte is as it was written, and yet it is not what the source held."""
    told = dict(snapshot.artifacts("config").fingerprint)
    (snapshot.root / "live" / "config" / "app.yml").write_text("")
    snapshot.publish(["config"], lambda document: document | {"fingerprint": told})
    assert snapshot.verdicts("readable", sources=["config"])["config"] == PASS
    assert snapshot.verdicts("restored", sources=["config"])["config"] == FAIL


class Spoiling(FilesSource):
    """A source whose restore does not bring back what was captured."""

    def stage(self, artifacts: Any, place: Place) -> None:
        super().stage(artifacts, place)
        staged = self.staged(place)
        assert isinstance(staged, Path)
        (staged / "config" / "app.yml").write_text("")


def test_a_restore_that_does_not_bring_the_content_back_fails(snapshot: Snapshot) -> None:
    first, *_ = snapshot.verify(
        "restored", open_source=lambda name: Spoiling(snapshot.spec(name)), sources=["config"]
    )
    assert (first.verdict, first.basis) == (FAIL, "source")
    assert "restored, it differs" in first.reason
    assert "app.yml" in first.reason


def test_a_fuzzy_capture_is_no_proof_of_the_source_s_instant(snapshot: Snapshot) -> None:
    snapshot.publish(["config"], consistency="fuzzy")
    *_, found = snapshot.verify("restored", sources=["config"])
    assert (found.verdict, found.basis) == (PASS, "artifact")


@pytest.mark.parametrize(
    ("checks", "verdict", "word"),
    [
        ([Probe("file", "config/.env", name="env is there")], PASS, "env is there"),
        ([Probe("file", "config/gone", name="gone")], FAIL, "check gone: expected"),
        ([Probe("redis", "PING", name="pong")], UNKNOWN, "pong"),
        ([Probe("redis", "PING"), Probe("file", "config/gone", name="gone")], FAIL, "gone"),
        ([Probe("http", "http://127.0.0.1:1/")], PASS, "no check was asked"),
        ([Probe("run", 'test "$MINE" = 1 && grep -q 8080 config/app.yml', name="r")], PASS, "r"),
        ([Probe("run", "rm -r config", name="careless")], PASS, "careless"),
    ],
)
def test_checks_are_asked_of_what_was_restored(
    snapshot: Snapshot, checks: list[Probe], verdict: str, word: str
) -> None:
    before = (snapshot.root / "live" / "config" / "app.yml").read_text()
    found = snapshot.verify("restored", checks={"config": checks}, environment={"MINE": "1"})
    assert found[0].verdict == verdict, found[0].reason
    assert word in found[0].reason
    assert (snapshot.root / "live" / "config" / "app.yml").read_text() == before
    assert snapshot.verdicts("readable", checks={"config": checks})["config"] == PASS


class Failing(LocalTarget):
    """A folder whose disk gives up at some files."""

    unreadable = ""

    def get(self, key: str, *, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        if self.unreadable in key:
            raise StepFailed("disk reports an input/output error", remedy="Look at dmesg.")
        return super().get(key, offset=offset, length=length)


@pytest.mark.parametrize("level", ["stored", "readable"])
def test_a_target_that_cannot_be_read_is_no_damage(
    snapshot: Snapshot, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing("disk", snapshot.target.root)
    monkeypatch.setattr(Snapshot, "target", failing)
    failing.unreadable = snapshot.manifest.of("config")[0].key
    assert snapshot.verdicts(level) == {"config": UNKNOWN, "notes": PASS} | ABSENT
    (config,) = (one for one in snapshot.verify(level) if one.source == "config")
    assert config.reason == "disk reports an input/output error Look at dmesg."
    failing.unreadable = MANIFEST
    assert snapshot.verdicts(level, sources=["notes"]) == {"": UNKNOWN, "notes": UNKNOWN}


def test_what_is_read_is_counted_and_may_be_stopped(snapshot: Snapshot) -> None:
    read: list[int] = []
    snapshot.verify("stored", progress=read.append)
    assert sum(read) == sum(p.stat().st_size for p in snapshot.files if p.name != MANIFEST)

    def stop(_more: int) -> None:
        raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        snapshot.verify("stored", progress=stop)


def test_an_id_that_is_none_is_refused(snapshot: Snapshot) -> None:
    with pytest.raises(UsageError):
        verify(
            "stored",
            snapshot.target,
            PROJECT,
            PROFILE,
            "../../etc",
            identities=list,
            open_source=snapshot.source,
            scratch=snapshot.root,
            token=TOKEN,
        )
    assert set(verdicts_of_nothing(snapshot)) == {FAIL}


def verdicts_of_nothing(snapshot: Snapshot) -> list[str]:
    """What is said of a snapshot that the target does not hold."""
    shutil.rmtree(snapshot.folder)
    return list(snapshot.verdicts("stored").values())
