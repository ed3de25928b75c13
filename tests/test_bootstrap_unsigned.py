"""A new machine that is given a snapshot which nobody signed: whoever may write there made it."""

from __future__ import annotations

import hashlib
import shlex
import sqlite3
import subprocess
from pathlib import Path

import pyrage
import pytest

from tests.inside import Inside
from tests.tools import Answer

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


def test_a_harmless_spec_is_followed_at_once(tmp_path: Path) -> None:
    backed_up(tmp_path, HARMLESS)
    words = ("dr-restore", "--from", "./usb", "--dir", "new", "--confirm", "quaybot")
    Inside(tmp_path)(*words, status=0)
    assert (tmp_path / "new/config/file").read_text() == "content\n"
    plain = tmp_path / "plain"
    plain.mkdir()
    assert (tmp_path / "new").stat().st_mode == plain.stat().st_mode  # others may have to enter


def test_the_digest_of_another_spec_is_refused_however_harmless_this_one_is(
    tmp_path: Path,
) -> None:
    digest = backed_up(tmp_path, HARMLESS)
    words = ("dr-restore", "--from", "./usb", "--dir", "new", "--confirm", "quaybot")
    answer = Inside(tmp_path)(*words, "--confirm-spec", "0" * 64, status=7)
    assert f"--confirm-spec {digest}" in answer.stderr
    assert [one.name for one in (tmp_path / "new").iterdir()] == ["backup.yaml"]
    Inside(tmp_path)(*words, "--confirm-spec", digest, status=0)


@pytest.mark.parametrize("source", ["{type: git, path: .}", "{type: files, paths: [.]}"])
def test_a_source_may_be_the_folder_itself(tmp_path: Path, source: str) -> None:
    subprocess.run(["git", "init", "-q", tmp_path / "old"], check=True)
    commit = (
        "-c",
        "user.name=a",
        "-c",
        "user.email=b",
        "commit",
        "-q",
        "--allow-empty",
        "-m",
        "One",
    )
    subprocess.run(["git", "-C", tmp_path / "old", *commit], check=True)
    backed_up(tmp_path, HARMLESS.replace("{type: files, paths: [config]}", source))
    words = ("dr-restore", "--from", "./usb", "--dir", "new", "--confirm", "quaybot")
    Inside(tmp_path)(*words, status=0)
    assert (tmp_path / "new/.git/HEAD").exists()


def test_a_link_leads_no_source_out_of_the_folder(tmp_path: Path) -> None:
    nested = (
        "  config: {type: files, paths: [config]}\n  more: {type: files, paths: [config/out/a]}"
    )
    order = "recovery: [{restore: config}, {restore: more}]\n"
    (tmp_path / "old/config").mkdir(parents=True)
    (tmp_path / "elsewhere/a").mkdir(parents=True)
    (tmp_path / "elsewhere/a/file").write_text("forged\n")
    (tmp_path / "old/config/out").symlink_to("../../elsewhere")
    backed_up(
        tmp_path, HARMLESS.replace("  config: {type: files, paths: [config]}", nested) + order
    )
    (tmp_path / "elsewhere/a/file").write_text("precious\n")
    words = ("dr-restore", "--from", "./usb", "--dir", "new", "--confirm", "quaybot")
    answer = Inside(tmp_path)(*words, status=4)
    assert "a link on the way to it leads to" in answer.stderr
    assert [one.name for one in (tmp_path / "elsewhere").iterdir()] == ["a"]
    assert (tmp_path / "elsewhere/a/file").read_text() == "precious\n"


def test_the_line_that_goes_on_asks_for_the_same_recovery(tmp_path: Path) -> None:
    backed_up(tmp_path, HARMLESS + "checks: {config: [{name: one, run: test -s config/file}]}\n")
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
        (
            '{type: redis, host: elsewhere.example.org, password: {secret: "env:KEY"}}',
            "sources.more.host: elsewhere.example.org",
        ),
        (
            '{type: redis, host: "::7", password: {secret: "env:KEY"}}',
            "sources.more.password: env:KEY",
        ),
        (
            '{type: postgres, host: elsewhere, password: {secret: "env:KEY"}}',
            "sources.more.type: postgres",
        ),
        ("{type: postgres, dbname: quay}", "sources.more: the SQL of its dump, whatever it says"),
    ],
)
def test_a_secret_goes_to_no_server_elsewhere_before_somebody_looked(
    tmp_path: Path, source: str, shown: str
) -> None:
    answer = asked_for(tmp_path, source, status=7)
    assert f"  {shown}\n" in answer.stderr


@pytest.mark.parametrize(
    "source",
    [
        '{type: redis, port: 1, password: {secret: "env:KEY"}}',
        '{type: redis, host: localhost, port: 1, password: {secret: "env:KEY"}}',
        '{type: redis, url: {secret: "env:KEY"}}',
    ],
)
def test_a_secret_may_go_to_a_server_here_or_name_the_server(tmp_path: Path, source: str) -> None:
    answer = asked_for(tmp_path, source, status=1)
    assert "There is no snapshot of more" in answer.stderr


def asked_for(folder: Path, source: str, *, status: int) -> Answer:
    """What a recovery says of a spec that has one more source, of which nothing was backed up."""
    more = f"  more: {source}\ntargets:"
    spec = HARMLESS.replace("targets:", more) + "policies: {nightly: {sources: [config]}}\n"
    environment = {"KEY": "redis://localhost:1"}
    backed_up(folder, spec, **environment)
    words = ("dr-restore", "--from", "./usb", "--dir", "new", "--confirm", "quaybot")
    return Inside(folder, environment)(*words, status=status)


def test_variables_come_from_a_source_that_needs_them_itself(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/.env").write_text("UPLOADS=uploads\nDATABASE=app.db\n")
    digest = backed_up(tmp_path, BY_VARIABLES)
    words = ("dr-restore", "--from", "./usb", "--dir", "new", "--confirm", "quaybot")
    answer = Inside(tmp_path)(*words, status=7)
    assert "places outside" in answer.stderr
    assert "sources.db.path: ${DATABASE}" in answer.stderr
    Inside(tmp_path)(*words, "--confirm-spec", digest, status=0)
    assert (tmp_path / "new/uploads/new/file").read_text() == "content\n"
    assert (tmp_path / "new/app.db").exists()


def test_a_harmless_recovery_goes_on_by_the_line_that_it_prints(tmp_path: Path) -> None:
    order = 'recovery: [{manual: "Call the harbour."}, {restore: config}]\n'
    backed_up(tmp_path, HARMLESS + order)
    words = ("dr-restore", "--from", "./usb", "--dir", "new", "--confirm", "quaybot")
    stopped = Inside(tmp_path).json(*words, status=7)
    Inside(tmp_path)(*shlex.split(stopped["next"])[1:], status=0)
    assert (tmp_path / "new/config/file").read_text() == "content\n"
    back = ("dr-restore", "--rollback", stopped["run"], "--confirm", "quaybot")
    answer = Inside(tmp_path)(*back, "--from", "./usb", "--dir", "new", status=1)
    assert f"cd {tmp_path}/new" in answer.stderr
    Inside(tmp_path / "new")(*back, status=0)


def test_a_project_is_never_guessed(tmp_path: Path) -> None:
    profiles = "profiles: {prod: {}}\n"
    backed_up(tmp_path, HARMLESS + profiles)
    Inside(tmp_path / "old")("backup", "--profile", "prod", status=0)
    words = ("dr-restore", "--from", "./usb", "--dir", "new", "--confirm", "quaybot")
    Inside(tmp_path)(*words, "--dry-run", status=0)
    other = HARMLESS.replace("quaybot", "other") + profiles
    (tmp_path / "old/backup.yaml").write_text(other)
    Inside(tmp_path / "old")("backup", "--profile", "prod", status=0)
    answer = Inside(tmp_path)(*words, status=1)
    assert "--project other --profile prod; --project quaybot --profile default" in answer.stderr
    Inside(tmp_path)(*words, "--project", "quaybot", status=0)


def test_damaged_snapshots_are_told_without_a_spec_too(tmp_path: Path) -> None:
    backed_up(tmp_path, HARMLESS)
    holdfast = Inside(tmp_path)
    (tmp_path / "usb/quaybot/default").rename(tmp_path / "usb/quaybot/prod")
    answer = holdfast("list", "--from", "./usb", status=4)
    assert "is damaged: it is that of quaybot/default/" in answer.stdout
    recovered = holdfast("dr-restore", "--from", "./usb", "--dir", "new", status=4)
    assert "No snapshot at" in recovered.stderr
    assert "it is that of quaybot/default/" in recovered.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        ('db: {type: sqlite, path: "${DATABASE:-app.db}"}', "sources.db.path: ${DATABASE:-app.db}"),
        ("db: {type: sqlite, path: app.db}", "recovery[1].probe.http: http://127.0.0.1:1/${KEY}"),
    ],
)
def test_what_is_put_together_with_variables_is_looked_at_first(
    tmp_path: Path, more: str, shown: str
) -> None:
    spec = HARMLESS.replace("targets:", f"  {more}\ntargets:")
    if "probe" in shown:
        spec += (
            'recovery: [{restore: [config, db]}, {probe: {http: "http://127.0.0.1:1/${KEY}"}}]\n'
        )
    backed_up(tmp_path, spec, KEY="x")
    words = ("dr-restore", "--from", "./usb", "--dir", "new", "--confirm", "quaybot")
    answer = Inside(tmp_path, {"KEY": "precious"})(*words, status=7)
    assert f"  {shown}\n" in answer.stderr
    assert "precious" not in answer.stderr
    assert [one.name for one in (tmp_path / "new").iterdir()] == ["backup.yaml"]


def test_recipients_by_a_variable_are_not_needed_to_read(tmp_path: Path) -> None:
    identity = pyrage.x25519.Identity.generate()
    (tmp_path / "key").write_text(f"{identity}\n")
    spec = HARMLESS + 'encryption: {recipients: ["${BACKUP_RECIPIENT}"]}\n'
    spec += "policies: {nightly: {schedule: 24h}}\n"
    backed_up(tmp_path, spec, BACKUP_RECIPIENT=str(identity.to_public()))
    words = ("dr-restore", "--from", "./usb", "--dir", "new", "--confirm", "quaybot")
    Inside(tmp_path)(*words, "--identity", "key", status=0)
    new = Inside(tmp_path / "new")
    assert (new.folder / "config/file").read_text() == "content\n"
    new("verify", "--identity", "../key", "--level", "readable", status=0)
    assert "encryption: ${BACKUP_RECIPIENT} has no value" in new("doctor", status=4).stderr
    before = new("list", status=0).stdout
    for refused in ("backup", "backup --due", "rekey --confirm quaybot --identity ../key"):
        answer = new(*refused.split(), status=3)
        assert "${BACKUP_RECIPIENT} has no value" in answer.stderr
    assert new("list", status=0).stdout == before
