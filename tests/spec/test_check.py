"""Warnings: each says what can never be kept, where, and what to do."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from runner.spec.check import warnings
from runner.spec.load import load_spec
from runner.spec.marks import Problem
from tests.spec.builders import EXAMPLES, write_spec

KEY = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"

# Nothing to warn of, but for both targets being on the disk of the tests.
SOUND = f"""\
version: 1
project: quaybot
timezone: Europe/Berlin
sources:
  db: {{type: sqlite, path: data/quaybot.db}}
  config: {{type: files, paths: [config], exclude: ["*.tmp"]}}
targets:
  disk: {{type: local, path: backups}}
  usb: {{type: local, path: usb}}
encryption: {{recipients: [{KEY}], identity: {{secret: "file:/mnt/key"}}}}
policies:
  nightly: {{schedule: "0 2 * * *", keep: {{daily: 14}}, expected: 5m}}
objectives:
  system: {{rto: 4h, drill_every: 90d}}
  db: {{rpo: 26h, proof_every: 7d}}
  config: {{rpo: 26h}}
recovery:
  - {{restore: config}}
  - {{restore: db}}
"""
LOCAL, BUCKET = "{type: local, path: usb}", "{type: s3, bucket: backups,"
ONE_DISK = "All targets are on one disk"


def warned(folder: Path, *changes: tuple[str, str]) -> list[Problem]:
    """What is warned of once the sound spec is changed, but for the tests' own disk."""
    text = SOUND
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    spec = load_spec(write_spec(folder, text), environment={})
    return [one for one in warnings(spec) if ONE_DISK not in one.message]


def test_a_sound_spec_is_warned_of_its_disk_alone(tmp_path: Path) -> None:
    assert warned(tmp_path) == []
    spec = load_spec(write_spec(tmp_path, SOUND), environment={})
    assert [one.path for one in warnings(spec)] == ["targets"]


@pytest.mark.parametrize(
    ("old", "new", "path", "said"),
    [
        ("{schedule:", "{sources: [db], schedule:", "sources.config", "No policy backs up"),
        ("  config: {rpo: 26h}\n", "", "sources.config", "no objective"),
        ("  db: {rpo: 26h, ", "  db: {", "sources.db", "no objective"),
        ("{restore: db}", "{run: a}", "sources.db", "never restores"),
        ("type: sqlite, path: data/quaybot.db", "type: git, url: file:///x", "sources.db", "path:"),
        (', identity: {secret: "file:/mnt/key"}', "", "encryption", "COULD-NOT-VERIFY"),
        (", drill_every: 90d", "", "objectives.system.rto", "drill_every: 90d"),
        ('schedule: "0 2 * * *", ', "", "objectives.db.rpo", "by hand only"),
        ("expected: 5m", "expected: 2h", "policies.nightly.schedule", "1d3h old"),
        ('"0 2 * * *"', '"0 2 * * 1-5"', "policies.nightly.schedule", "longest interval"),
        ("db: {rpo: 26h", "db: {rpo: 25h", "policies.nightly.schedule", "`db` may lose"),
        ("expected: 5m", "targets: [usb]", "policies.nightly.targets", "3-2-1"),
        ("expected: 5m", "kind: incremental", "policies.nightly.kind", "takes a full"),
        ("{daily: 14}", "{daily: 3}", "policies.nightly.keep", "objectives.db.proof_every"),
        ("{daily: 14}", "{last: 3, hourly: 4}", "policies.nightly.keep", "unnoticed for 7d"),
        ("path: usb", "path: usb, keep: {daily: 2}", "targets.usb.keep", "about 2d"),
        (LOCAL, f"{BUCKET} lock: 15d}}", "targets.usb.lock", "locked for 15d"),
        (LOCAL, f"{BUCKET} lock: 12h}}", "targets.usb.lock", "nothing of it is locked"),
        ("{restore: db}", "{run: a, env: {A_TOKEN: x}}", "recovery[1].env.A_TOKEN", "env_file"),
        ("{restore: db}", "{run: a, env: {PGPASSWORD: x}}", "recovery[1].env.PGPASSWORD", "secret"),
        ("{restore: db}", "{run: a, env: {MYSQL_PWD: x}}", "recovery[1].env.MYSQL_PWD", "secret"),
        ("file:/mnt/key", "file:config/key", "encryption.identity", "the source `config`"),
        ("file:/mnt/key", "file:usb/sub/key", "encryption.identity", "the target `usb`"),
        ("file:/mnt/key", "file:.holdfast/key", "encryption.identity", "the state folder"),
        ("data/quaybot.db", "config/quaybot.db", "sources.db", "Exclude it from `config`"),
        ("*.tmp", "!keep.tmp", "sources.config.exclude[0]", "No glob brings back"),
        ("*.tmp", "/srv/config/x", "sources.config.exclude[0]", "excludes nothing"),
        (
            LOCAL,
            "{type: rclone, remote: 'b2:dr'}",
            "targets.usb.remote",
            "Let one host alone prune",
        ),
    ],
)
def test_what_is_warned_of(tmp_path: Path, old: str, new: str, path: str, said: str) -> None:
    found = {one.path: one for one in warned(tmp_path, (old, new))}
    assert said in found[path].message
    assert found[path].line > 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("recovery:", "services: {bot: {sources: [db], env: {TOKEN_FILE: x}}}\nrecovery:"),
        ("{restore: db}", "{restore: db}\n  - {run: a, expected: 1m, env: {PWD: x, MONKEY: y}}"),
        ("{daily: 14}", "{weekly: 2}"),
        ("{daily: 14}", "{within: 8d}"),
        ("{daily: 14}", "{last: 8}"),
        ("{daily: 14}", "{max_size: 1GiB}"),
        ("keep: {daily: 14}, ", ""),
        ("data/quaybot.db", "config/quaybot.tmp"),
        (LOCAL, f"{BUCKET} lock: 14d}}"),
        ("type: sqlite, path: data/quaybot.db", "type: git, url: file:///x, path: clone"),
        ('"0 2 * * *"', "12h"),
        ("drill_every: 90d}", "rpo: 26h, drill_every: 90d}"),
    ],
)
def test_what_is_not(tmp_path: Path, old: str, new: str) -> None:
    assert warned(tmp_path, (old, new)) == []


def test_the_objective_of_the_system_holds_for_each_source(tmp_path: Path) -> None:
    changes = (("rto: 4h", "rto: 4h, rpo: 1h"), ("config: {rpo: 26h}", "config: {rto: 1h}"))
    found = warned(tmp_path, *changes)
    assert [one.path for one in found] == ["policies.nightly.schedule"]
    assert "`config` may lose at most 1h" in found[0].message


def test_the_best_of_several_policies_decides(tmp_path: Path) -> None:
    changes = (
        ("db: {rpo: 26h", "db: {rpo: 2h"),
        ("objectives:", "  hourly: {schedule: 1h}\nobjectives:"),
    )
    assert warned(tmp_path, *changes) == []


def test_without_anything_declared_a_week_is_the_time_to_notice(tmp_path: Path) -> None:
    changes = (
        (", proof_every: 7d", ""),
        ("  system: {rto: 4h, drill_every: 90d}\n", ""),
        ("{daily: 14}", "{daily: 6}"),
    )
    found = warned(tmp_path, *changes)
    assert [one.path for one in found] == ["policies.nightly.keep"]
    assert "a week, since nothing is declared" in found[0].message


def test_one_target_is_too_few(tmp_path: Path) -> None:
    found = warned(tmp_path, ("  usb: {type: local, path: usb}\n", ""))
    assert [one.path for one in found] == ["targets"]
    assert "3-2-1" in found[0].message


def test_a_folder_that_is_restored_later_is_no_working_dir(tmp_path: Path) -> None:
    early = "recovery:\n  - {name: deploy, run: make, working_dir: config/deploy, timeout: 1m}\n"
    found = warned(tmp_path, ("recovery:\n", early))
    assert [one.path for one in found] == ["recovery[0].working_dir"]
    assert "Restore `config` first" in found[0].message
    late = (
        "  - {restore: db}\n",
        "  - {restore: db}\n  - {run: make, working_dir: config, timeout: 1m}\n",
    )
    assert warned(tmp_path, late) == []


def test_a_linked_path_is_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "keys").symlink_to("config")
    found = warned(tmp_path, ("file:/mnt/key", "file:keys/age.key"))
    assert [one.path for one in found] == ["encryption.identity"]


def test_files_that_git_tracks_too_are_their_own_source_s(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "bot.toml").write_text("a = 1\n")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "add", "config"], check=True)
    with_code = ("targets:\n", "  code: {type: git, path: .}\ntargets:\n")
    objective = ("  config: {rpo", "  code: {rpo: 26h}\n  config: {rpo")
    restored = ("  - {restore: config}", "  - {restore: code}\n  - {restore: config}")
    assert warned(tmp_path, with_code, objective, restored) == []


def test_two_sources_of_one_file_are_told_once(tmp_path: Path) -> None:
    twin = ("  config: {type", "  copy: {type: sqlite, path: ./data/quaybot.db}\n  config: {type")
    objective = ("  config: {rpo", "  copy: {rpo: 26h}\n  config: {rpo")
    restored = ("{restore: db}", "{restore: [db, copy]}")
    found = warned(tmp_path, twin, objective, restored)
    assert [one.path for one in found] == ["sources.copy"]
    assert found[0].message.endswith("Remove one of the two.")


def test_the_example_warns_of_its_folder_that_is_not_there_yet() -> None:
    spec = load_spec(EXAMPLES / "quaybot.yaml", environment={})
    found = {one.path: one for one in warnings(spec)}
    assert "restored later" in found["recovery[0].working_dir"].message
    assert found["recovery[0].working_dir"].line == 46


def test_warnings_stand_in_the_order_of_the_file() -> None:
    spec = load_spec(EXAMPLES / "minimal.yaml", environment={})
    found = warnings(spec)
    assert [(one.line, one.column) for one in found] == sorted(
        (one.line, one.column) for one in found
    )
    assert {one.path for one in found} == {"sources.db", "targets"}
