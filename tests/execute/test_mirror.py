"""Commands of a drill find what was restored where they would find it live, and nothing live."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tests.inside import Inside
from tests.tools import run

SPEC = """\
version: 1
project: quaybot
env_file: [.env]
sources:
  one: {type: sqlite, path: one/app.db}
  two: {type: sqlite, path: two/app.db}
  config: {type: files, paths: [.env, code/settings.toml]}
  code: {type: git, path: code}
targets:
  disk: {type: local, path: backups}
recovery:
  - {restore: [one, two]}
  - {restore: code}
  - {restore: config}
  - name: looks
    run: |
      test "$NAME" = quay
      grep -q live code/settings.toml
      grep -q print code/code/bot.py
      test -s one/app.db && test -s two/app.db
    drill: same
  - {name: one, probe: {sql: "select count(*) = 1 from names", source: one}, drill: same}
  - {name: two, probe: {sql: "select count(*) = 2 from names", source: two}, drill: same}
"""


def build(folder: Path) -> Inside:
    (folder / "backup.yaml").write_text(SPEC)
    (folder / ".env").write_text("NAME=quay\n")
    for name, rows in (("one", 1), ("two", 2)):
        (folder / name).mkdir()
        database = sqlite3.connect(folder / name / "app.db")
        database.execute("create table names(name)")
        database.executemany("insert into names values(?)", [(name,)] * rows)
        database.commit()
        database.close()
    run("git", "init", "-q", "code", folder=folder)
    (folder / "code" / "code").mkdir()
    (folder / "code" / "code" / "bot.py").write_text("print('quay')\n")
    (folder / "code" / "settings.toml").write_text("tracked\n")
    run("git", "add", ".", folder=folder / "code")
    run("git", "commit", "-q", "-m", "one", folder=folder / "code")
    (folder / "code" / "settings.toml").write_text("live\n")
    program = Inside(folder)
    program("backup", status=0)
    return program


def test_a_command_finds_everything_in_its_place(tmp_path: Path) -> None:
    holdfast = build(tmp_path)
    document = holdfast.json("drill")
    assert {one["verdict"] for one in document["checks"]} == {"PASS"}
    assert [one["name"] for one in document["checks"]] == ["one", "two"]


def test_a_link_in_restored_content_leads_to_nothing_live(tmp_path: Path) -> None:
    live = tmp_path / "live"
    live.mkdir()
    (live / "settings.toml").write_text("precious\n")
    stack = tmp_path / "stack"
    stack.mkdir()
    holdfast = build(stack)
    # The clone has a link where the next source's path goes through.
    code = stack / "code"
    (code / "etc").symlink_to(live)
    run("git", "add", "etc", folder=code)
    run("git", "commit", "-q", "-m", "a link", folder=code)
    text = (stack / "backup.yaml").read_text()
    (stack / "backup.yaml").write_text(
        text.replace("code/settings.toml]", "code/etc/settings.toml]")
    )
    holdfast("backup")
    document = holdfast.json("drill", status=4)
    assert "A drill may not touch" in document["error"]["message"]
    assert (live / "settings.toml").read_text() == "precious\n"
    assert not (live / "settings.toml").is_symlink()
