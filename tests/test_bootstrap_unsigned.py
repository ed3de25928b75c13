"""A new machine that is given a snapshot which nobody signed: whoever may write there made it."""

from __future__ import annotations

import hashlib
import shlex
import sqlite3
from pathlib import Path

import pytest

from tests.inside import Inside

HARMLESS = """\
version: 1
project: quaybot
sources:
  config: {type: files, paths: [config]}
targets:
  disk: {type: local, path: ../usb}
"""
BY_VARIABLES = """\
version: 1
project: quaybot
env_file: [.env]
sources:
  config: {type: files, paths: [.env, "${UPLOADS}/new"]}
  db: {type: sqlite, path: "${DATABASE}"}
targets:
  disk: {type: local, path: ../usb}
"""


def backed_up(folder: Path, spec: str, **environment: str) -> str:
    """A service in `old` with a snapshot in `usb`; return the digest of its spec."""
    old = folder / "old"
    for name in ("config", "uploads/new"):
        (old / name).mkdir(parents=True, exist_ok=True)
        (old / name / "file").write_text("content\n")
    with sqlite3.connect(old / "app.db") as database:
        database.executescript("create table t(a); insert into t values(1);")
    database.close()
    (old / "backup.yaml").write_text(spec)
    Inside(old, environment)("backup", status=0)
    return hashlib.sha256(spec.encode()).hexdigest()


def test_a_spec_is_confirmed_however_harmless_it_looks(tmp_path: Path) -> None:
    digest = backed_up(tmp_path, HARMLESS)
    words = ("dr-restore", "--from", "./usb", "--dir", "new", "--confirm", "quaybot")
    answer = Inside(tmp_path)(*words, status=7)
    assert f"--confirm-spec {digest}" in answer.stderr
    assert [one.name for one in (tmp_path / "new").iterdir()] == ["backup.yaml"]
    Inside(tmp_path)(*words, "--confirm-spec", digest, status=0)
    assert (tmp_path / "new/config/file").read_text() == "content\n"


def test_the_line_that_goes_on_asks_for_the_same_recovery(tmp_path: Path) -> None:
    backed_up(tmp_path, HARMLESS)
    first = Inside(tmp_path).json("list", "--from", "./usb")["snapshots"][0]["id"]
    (tmp_path / "old/config/file").write_text("changed\n")
    Inside(tmp_path / "old")("backup", status=0)
    for name, flags in {"one": ("--snapshot", first), "two": ("--steps", "restore-config")}.items():
        words = ("dr-restore", "--from", "./usb", "--dir", name, *flags)
        line = Inside(tmp_path)(*words, status=7).stderr.rpartition("holdfast ")[2]
        assert " ".join(flags) in line
        Inside(tmp_path)(*shlex.split(line), status=0)
    assert (tmp_path / "one/config/file").read_text() == "content\n"
    assert (tmp_path / "two/config/file").read_text() == "changed\n"


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("{type: redis, host: elsewhere.example.org}", "sources.more.host: elsewhere.example.org"),
        ('{type: redis, password: {secret: "env:KEY"}}', "sources.more.password: env:KEY"),
        ("{type: postgres, dbname: quay}", "sources.more.type: postgres"),
    ],
)
def test_servers_and_secrets_of_this_machine_are_shown(
    tmp_path: Path, source: str, shown: str
) -> None:
    more = f"  more: {source}\ntargets:"
    spec = HARMLESS.replace("targets:", more) + "policies: {nightly: {sources: [config]}}\n"
    backed_up(tmp_path, spec, KEY="x")
    holdfast = Inside(tmp_path, {"KEY": "x"})
    answer = holdfast("dr-restore", "--from", "./usb", "--dir", "new", status=7)
    assert f"  {shown}\n" in answer.stderr


def test_variables_come_from_a_source_that_needs_them_itself(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/.env").write_text("UPLOADS=uploads\nDATABASE=app.db\n")
    digest = backed_up(tmp_path, BY_VARIABLES)
    words = ("dr-restore", "--from", "./usb", "--dir", "new", "--confirm", "quaybot")
    answer = Inside(tmp_path)(*words, status=7)
    assert "places outside" in answer.stderr
    assert "sources.db.path: ${DATABASE}" in answer.stderr
    assert ".env of the snapshot may say otherwise" in answer.stderr
    Inside(tmp_path)(*words, "--confirm-spec", digest, status=0)
    assert (tmp_path / "new/uploads/new/file").read_text() == "content\n"
    assert (tmp_path / "new/app.db").exists()
