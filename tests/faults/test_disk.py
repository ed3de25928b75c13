"""Disks that are full, read-only or gone; sources that vanish, change or may not be read."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.bad_day import TARGETS, Steady, snapshots, steady
from tests.faults.conftest import Fresh
from tests.service import Service
from tests.tools import Answer, cannot_run, clean_environment, require_program

NOBODY = 65534


def mount(folder: Path, options: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of a few bytes on a folder; what was in the folder is in it."""
    if os.geteuid() != 0:
        cannot_run("only root can mount a small file system: run this test as root")
    folder.mkdir(parents=True, exist_ok=True)
    before = folder.with_name(f"{folder.name}.before")
    shutil.copytree(folder, before, symlinks=True)
    if not mount(folder, f"size={size},mode=700"):
        cannot_run("this machine lets nobody mount a tmpfs")
    try:
        shutil.copytree(before, folder, symlinks=True, dirs_exist_ok=True)
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        shutil.rmtree(before)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no byte free."""
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(os.urandom(4096)):
            pass
    return ballast


def as_nobody(service: Service, *arguments: str) -> Answer:
    """Run the program as a user who owns nothing."""
    if os.geteuid() != 0:
        cannot_run("only root can become another user: run this test as root")
    require_program("setpriv", "util-linux")
    identity = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    done = subprocess.run(
        ["setpriv", *identity, sys.executable, "-P", "-m", "runner", *arguments],
        cwd=service.folder,
        env=clean_environment(service.folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return steady(Answer(("holdfast", *arguments), done.returncode, done.stdout, done.stderr))


@pytest.fixture
def grown(fresh: Fresh) -> tuple[Service, Steady]:
    """A service at two targets with some megabytes that do not compress."""
    service, holdfast = fresh("two")
    (service.folder / "config" / "ballast").write_bytes(os.urandom(3_000_000))
    return service, holdfast


def whole(service: Service, holdfast: Steady) -> None:
    """Nothing half visible, nothing left behind, and what is listed is sound."""
    assert service.half_snapshots() == []
    assert service.leftovers() == []
    results = holdfast.json("verify")["results"]
    # What a snapshot is said to lack is skipped, and it has one sound source at least.
    told = [one for one in results if "its capture failed" not in one["reason"]]
    assert {one["verdict"] for one in told} == {"PASS"}, told


@pytest.mark.parametrize(("folder", "name"), [("backups", "disk"), ("elsewhere", "offsite")])
def test_a_full_target_is_told_and_leaves_nothing(
    grown: tuple[Service, Steady], folder: str, name: str
) -> None:
    service, holdfast = grown
    before = {target: [one.name for one in snapshots(service, target)] for target in TARGETS}
    with small_disk(service.folder / folder, "2m"):
        document = holdfast.json("backup", status=4)
        assert f"Target {name}" in document["error"]["message"]
        assert "full" in document["error"]["message"]
        assert "Free some space" in document["error"]["message"]
        after = {target: [one.name for one in snapshots(service, target)] for target in TARGETS}
        # The other one has all of it.
        (published,) = document["snapshots"]
        (other,) = set(TARGETS) - {folder}
        assert after[folder] == before[folder]
        assert after[other] == [*before[other], published["id"]]
        assert published["missing"] == []
        assert [one["target"] for one in published["lacking"]] == [name]
        whole(service, holdfast)
        remount(service.folder / folder, "size=64m")
        again = holdfast.json("backup")
        assert again["snapshots"][0]["targets"] == ["disk", "offsite"]
        assert again["snapshots"][0]["missing"] == []
        whole(service, holdfast)


def test_a_target_without_one_free_byte(grown: tuple[Service, Steady]) -> None:
    service, holdfast = grown
    with small_disk(service.folder / "backups", "1m") as disk:
        ballast = fill(disk)
        document = holdfast.json("backup", status=4)
        assert document["snapshots"][0]["targets"] == ["offsite"]
        assert "disk" in document["error"]["message"]
        assert holdfast("status").status == 4
        ballast.unlink()
        remount(disk, "size=64m")
        whole(service, holdfast)
        holdfast("backup", status=0)
        whole(service, holdfast)


def test_a_prune_frees_a_target_without_one_free_byte(grown: tuple[Service, Steady]) -> None:
    service, holdfast = grown
    spec = service.folder / "backup.yaml"
    spec.write_text(spec.read_text().replace("keep: {last: 3}", "keep: {last: 1}"))
    with small_disk(service.folder / "backups", "1m") as disk:
        newest = snapshots(service)[-1]
        ballast = fill(disk)
        holdfast("prune", "--confirm", "quaybot", status=0)
        assert snapshots(service) == [newest]
        ballast.unlink()
    whole(service, holdfast)


def test_a_full_state_folder(grown: tuple[Service, Steady]) -> None:
    service, holdfast = grown
    with small_disk(service.folder / ".holdfast", "1m") as disk:
        ballast = fill(disk)
        answer = holdfast("backup")
        assert answer.status == 4, str(answer)
        assert ".holdfast" in answer.stderr
        assert "space" in answer.stderr
        for command in ("list", "status", "validate", "history"):
            holdfast(command)
        ballast.unlink()
        remount(disk, "size=64m")
        holdfast("backup", status=0)
        whole(service, holdfast)


def test_a_state_folder_without_the_room_that_a_copy_is_said_to_need(fresh: Fresh) -> None:
    service, holdfast = fresh()
    with small_disk(service.folder / ".holdfast", "8m") as disk:
        message = holdfast.json("backup", status=4)["error"]["message"]
        found = re.search(r"The copy needs ([0-9,]+) bytes in .* where ([0-9,]+) are free", message)
        assert found is not None, message
        needed, free = (int(one.replace(",", "")) for one in found.groups())
        assert needed > free
        # What is said to be enough is enough, beside what else goes on there.
        remount(disk, f"size={8 * 2**20 + needed - free + 2**20}")
        holdfast("backup", status=0)


def test_a_full_disk_under_a_restore(grown: tuple[Service, Steady]) -> None:
    service, holdfast = grown
    holdfast("backup", status=0)
    before = service.observe()
    with small_disk(service.folder / "data", "80k") as disk:
        ballast = fill(disk)
        live = (disk / "quaybot.db").read_bytes()
        document = holdfast.json("restore", "--source", "db", "--confirm", "db", status=4)
        assert f"{disk}/quaybot.db needs" in document["error"]["message"]
        assert "Free some room there" in document["error"]["message"]
        assert (disk / "quaybot.db").read_bytes() == live
        assert service.leftovers() == []
        assert service.log() in ([], ["stop", "start"])
        ballast.unlink()
        remount(disk, "size=64m")
        holdfast("restore", "--source", "db", "--confirm", "db", status=0)
        assert service.observe()["db"] == before["db"]
        assert service.leftovers() == []
    with small_disk(service.folder / "there", "1m") as disk:
        document = holdfast.json("restore", "--source", "config", "--to", "there/out", status=4)
        assert "space" in document["error"]["message"]
        assert [one.name for one in disk.iterdir()] == []


def test_a_read_only_target(grown: tuple[Service, Steady]) -> None:
    service, holdfast = grown
    with small_disk(service.folder / "elsewhere", "32m") as disk:
        remount(disk, "ro")
        document = holdfast.json("backup", status=4)
        assert document["snapshots"][0]["targets"] == ["disk"]
        assert "Target offsite" in document["error"]["message"]
        assert "read-only" in document["error"]["message"]
        holdfast("restore", "--source", "db", "--from", "offsite", "--to", "copy.db", status=0)
        holdfast("prune")
        holdfast("pin", "--snapshot", "latest")
        remount(disk, "rw")
        holdfast("backup", status=0)
        whole(service, holdfast)


@pytest.mark.slow
def test_a_user_whom_the_target_refuses(fresh: Fresh) -> None:
    service, _ = fresh("two")
    for path in (service.folder, *service.folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    for path in [service.folder, *service.folder.parents]:
        if path.stat().st_mode & 0o011 != 0o011:
            path.chmod(path.stat().st_mode | 0o011)
    elsewhere = service.folder / "elsewhere"
    for path in (elsewhere, *(one for one in elsewhere.rglob("*") if one.is_dir())):
        os.chown(path, 0, 0)
        path.chmod(0o755)
    (service.folder / "config" / "private").write_text("root's\n")
    (service.folder / "config" / "private").chmod(0o600)
    answer = as_nobody(service, "backup", "--json")
    document = answer.json
    assert answer.status == 4, str(answer)
    (snapshot,) = document["snapshots"]
    assert snapshot["missing"] == ["config"]
    assert snapshot["targets"] == ["disk"]
    assert "private" in document["error"]["message"] or "refuses" in document["error"]["message"]
    (service.folder / "config" / "private").unlink()
    answer = as_nobody(service, "backup", "--json")
    assert answer.status == 4
    assert "Target offsite" in answer.json["error"]["message"]
    assert "refuses this user" in answer.json["error"]["message"]
    assert service.half_snapshots() == []
    assert service.leftovers() == []


def test_a_target_that_vanished_is_not_made_anew_elsewhere(fresh: Fresh) -> None:
    service, holdfast = fresh("two")
    spec = service.folder / "backup.yaml"
    usb = service.folder / "mnt" / "usb"
    old, new = (
        "offsite: {type: local, path: elsewhere}",
        "usb: {type: local, path: mnt/usb/backups}",
    )
    spec.write_text(spec.read_text().replace(old, new))
    document = holdfast.json("backup", status=4)
    assert document["snapshots"][0]["targets"] == ["disk"]
    assert f"the folder {usb} is missing" in document["error"]["message"]
    assert "Mount the disk" in document["error"]["message"]
    assert not usb.parent.exists()
    usb.mkdir(parents=True)
    holdfast("backup", status=0)
    whole(service, holdfast)
    # The disk is gone, and its mount point is an empty folder on another one.
    usb.rename(service.folder / "unplugged")
    usb.mkdir()
    document = holdfast.json("backup", status=4)
    assert document["snapshots"][0]["targets"] == ["disk"]
    assert "usb" in document["error"]["message"]
    assert list(usb.rglob("*.json")) == []
    usb.rmdir()
    (service.folder / "unplugged").rename(usb)
    holdfast("backup", status=0)
    whole(service, holdfast)


@pytest.mark.parametrize("name", ["db", "config", "code"])
def test_a_vanished_source_hides_no_other(fresh: Fresh, name: str) -> None:
    service, holdfast = fresh()
    folder = {"db": "data", "config": "config", "code": "code"}[name]
    (service.folder / folder).rename(service.folder / "gone")
    document = holdfast.json("backup", status=4)
    (snapshot,) = document["snapshots"]
    assert snapshot["missing"] == [name]
    assert document["status"] == "partial"
    assert document["error"]["step"] == f"nightly.{name}.capture"
    assert not (service.folder / folder).exists()
    whole(service, holdfast)
    # What is missing today is taken from yesterday.
    holdfast("restore", "--source", name, "--confirm", name, status=0)
    assert (service.folder / folder).exists()


CHANGER = """
import os, sqlite3, sys, time
grown, rewritten, database = sys.argv[1:]
connection = sqlite3.connect(database, timeout=60)
number = 0
while True:
    number += 1
    with open(grown, "ab", buffering=0) as file:
        file.write(b"line\\n" * 2000)
    with open(rewritten, "r+b", buffering=0) as file:
        file.write(bytes([number % 256]) * 200_000)
    with connection:
        connection.execute("insert into players(name) values('more')")
    print(number, flush=True)
"""


def test_sources_that_change_while_they_are_read(fresh: Fresh, tmp_path: Path) -> None:
    service, holdfast = fresh()
    grown, rewritten = service.folder / "config" / "log", service.folder / "config" / "state"
    grown.write_bytes(b"line\n" * 400_000)
    rewritten.write_bytes(bytes(200_000))
    database = service.folder / "data" / "quaybot.db"
    arguments = [sys.executable, "-c", CHANGER, str(grown), str(rewritten), str(database)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as changer:
        try:
            assert changer.stdout is not None
            changer.stdout.readline()
            # A backup may fall between two changes; one that does not must say so.
            told = any(
                "changed as we read it" in holdfast("backup", status=0).stdout for _ in range(30)
            )
            assert changer.poll() is None
        finally:
            changer.kill()
    assert told
    results = holdfast.json("verify", "--level", "restored")["results"]
    assert {one["verdict"] for one in results} == {"PASS"}
    holdfast("restore", "--source", "config", "--to", tmp_path / "out", status=0)
    assert set((tmp_path / "out" / "config" / "log").read_bytes()[:5000]) <= set(b"line\n")
    holdfast("restore", "--source", "db", "--to", tmp_path / "copy.db", status=0)
    with contextlib.closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert copy.execute("pragma integrity_check").fetchone() == ("ok",)
    assert service.leftovers() == []
