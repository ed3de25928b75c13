"""One flipped byte, a cut, a file of another snapshot: told by `verify`, refused by `restore`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from runner.prove.levels import verify
from runner.target.local import LocalTarget
from tests.faults.bad_day import Steady, copied, safety_copies, snapshots
from tests.prove.small import flipped, positions
from tests.service import Service

SOURCES = ("code", "config", "db")
Damage = Callable[[Path, Path], None]  # of a file, given the older snapshot's folder


def flip_first(file: Path, _older: Path) -> None:
    flipped(file, 0)


def flip_middle(file: Path, _older: Path) -> None:
    flipped(file, file.stat().st_size // 2)


def flip_last(file: Path, _older: Path) -> None:
    flipped(file, file.stat().st_size - 1)


def cut(file: Path, _older: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size - 1)


def empty(file: Path, _older: Path) -> None:
    file.write_bytes(b"")


def append(file: Path, _older: Path) -> None:
    with file.open("ab") as opened:
        opened.write(b"\n")


def remove(file: Path, _older: Path) -> None:
    file.unlink()


def swap(file: Path, _older: Path) -> None:
    names = sorted(one.name for one in file.parent.iterdir())
    other = file.with_name(names[(names.index(file.name) + 1) % len(names)])
    mine, theirs = file.read_bytes(), other.read_bytes()
    file.write_bytes(theirs)
    other.write_bytes(mine)


def older(file: Path, older: Path) -> None:
    shutil.copyfile(older / file.name, file)


DAMAGES = (flip_first, flip_middle, flip_last, cut, empty, append, remove, swap, older)
SAMPLE = (
    "manifest.json",
    "SHA256SUMS",
    "RESTORE.md",
    "db.sqlite.zst",
    "config.fingerprint.json.zst",
)


@pytest.fixture(scope="module", params=["plain", "encrypted"])
def stack(
    request: pytest.FixtureRequest,
    originals: dict[str, Service],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Service, Steady]:
    folder = tmp_path_factory.mktemp("damage") / request.param
    return copied(originals[request.param], folder)


@contextmanager
def damaged(file: Path, damage: Damage) -> Iterator[None]:
    """The newest snapshot with one file damaged; it is whole again afterwards."""
    folder = file.parent
    first = min(folder.parent.glob("2*"))
    whole = folder.with_name("whole")
    shutil.copytree(folder, whole)
    try:
        damage(file, first)
        yield
    finally:
        shutil.rmtree(folder)
        whole.rename(folder)


def changed_files(newest: Path) -> list[Path]:
    """The files of the newest snapshot that differ from the older one's."""
    older = min(newest.parent.glob("2*"))
    return [
        file
        for file in sorted(newest.iterdir())
        if (older / file.name).read_bytes() != file.read_bytes()
    ]


def verdicts(service: Service, folder: Path) -> set[str]:
    """What level `stored` says of a snapshot, without a process or a plan."""
    findings = verify(
        "stored",
        LocalTarget("disk", service.folder / "backups"),
        "quaybot",
        "default",
        folder.name,
        identities=list,
        open_source=lambda name: pytest.fail(f"{name} was opened"),
        scratch=service.folder / "scratch",
        token="damage",
    )
    return {one.verdict for one in findings}


def touched(file: str) -> tuple[str, ...]:
    """The sources whose restore reads a file."""
    source = file.partition(".")[0]
    return (source,) if source in SOURCES else SOURCES


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_file_is_trusted(stack: tuple[Service, Steady], damage: Damage) -> None:
    service, _ = stack
    newest = snapshots(service)[-1]
    assert verdicts(service, newest) == {"PASS"}
    for file in changed_files(newest):
        with damaged(file, damage):
            assert "FAIL" in verdicts(service, newest), file.name


@pytest.mark.parametrize("damage", [flip_middle, cut, append, swap, older])
def test_nothing_is_replaced(stack: tuple[Service, Steady], damage: Damage) -> None:
    service, holdfast = stack
    newest = snapshots(service)[-1]
    before = service.observe()
    for file in sorted(newest.iterdir()):
        if (
            newest.parent / snapshots(service)[0].name / file.name
        ).read_bytes() == file.read_bytes():
            continue
        with damaged(file, damage):
            for source in touched(file.name):
                answer = holdfast(
                    "restore", "--source", source, "--snapshot", newest.name, "--confirm", source
                )
                assert answer.status == 4, f"{file.name}\n{answer}"
                assert "damaged" in answer.stderr, str(answer)
                assert safety_copies(service) == [], file.name
    assert service.observe() == before
    assert service.log() == []
    assert service.leftovers() == []


@pytest.mark.parametrize("name", ["manifest.json", "SHA256SUMS", "RESTORE.md", "db.sqlite"])
@pytest.mark.parametrize("damage", [flip_middle, cut, older])
def test_the_program_says_so(stack: tuple[Service, Steady], name: str, damage: Damage) -> None:
    service, holdfast = stack
    (file,) = snapshots(service)[-1].glob(f"{name}*")
    with damaged(file, damage):
        answer = holdfast("verify", "--level", "stored", status=4)
        assert "disk" in answer.stdout + answer.stderr


@pytest.mark.parametrize("level", ["readable", "restored"])
def test_what_a_restore_does_not_read_is_verified_too(
    stack: tuple[Service, Steady], level: str
) -> None:
    _, holdfast = stack
    (schema,) = snapshots(stack[0])[-1].glob("db.schema.sql*")
    with damaged(schema, flip_middle):
        results = holdfast.json("verify", "--level", level, status=4)["results"]
    assert {one["source"] for one in results if one["verdict"] == "FAIL"} == {"db"}


@pytest.mark.parametrize("damage", [empty, older])
def test_an_older_snapshot_is_never_taken_for_the_newest(
    stack: tuple[Service, Steady], damage: Damage
) -> None:
    service, holdfast = stack
    before = service.observe()
    first, newest = snapshots(service)
    with damaged(newest / "manifest.json", damage):
        for command in (
            ("restore", "--source", "db", "--confirm", "db"),
            ("dr-restore", "--confirm", "quaybot"),
            ("drill",),
        ):
            answer = holdfast(*command, status=4)
            assert newest.name in answer.stderr
            assert f"To take {first.name}: --at " in answer.stderr
        document = holdfast.json("verify", "--snapshot", newest.name, status=4)
        assert [one["verdict"] for one in document["results"]] == ["FAIL"]
        at = answer.stderr.rpartition("--at ")[2].split()[0]
        holdfast("drill", "--at", at, status=0)
    assert service.observe() == before


@pytest.mark.slow
def test_places_all_over_a_file_are_not_trusted(stack: tuple[Service, Steady]) -> None:
    service, _ = stack
    newest = snapshots(service)[-1]
    for file in sorted(newest.iterdir()):
        size = file.stat().st_size
        for position in positions(size, max(1, size // 40)):
            data = file.read_bytes()
            flipped(file, position)
            assert "FAIL" in verdicts(service, newest), f"{file.name}: byte {position}"
            file.write_bytes(data[:position])
            assert "FAIL" in verdicts(service, newest), f"{file.name}: cut at {position}"
            file.write_bytes(data)
    assert verdicts(service, newest) == {"PASS"}
