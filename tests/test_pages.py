"""Pages whose commands are typed as they stand, in a folder that stands for the whole machine."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.tools import ROOT, blocks, require_program, run

pytestmark = pytest.mark.slow

PLACES = re.compile(r"(?<![\w.])/(etc/holdfast|mnt|media|srv|tmp)(?=/)")
SERVICE = """\
version: 1
project: quaybot
sources:
  db: {type: sqlite, path: data/quaybot.db}
  config: {type: files, paths: [config]}
  code: {type: git, path: .}
targets:
  disk: {type: local, path: backups}
"""


def page_blocks(page: str, fence: str, root: Path) -> list[str]:
    """The blocks of a page, with the places that they name below `root`."""
    text = (ROOT / "docs/how-to" / page).read_text()
    return [PLACES.sub(rf"{root}/\1", block) for block in blocks(text, fence)]


def typed(folder: Path, *lines: str) -> str:
    """What is printed where these lines are typed, up to the first that fails."""
    path = f"export PATH={Path(sys.executable).parent}:$PATH"
    return run("bash", "-e", "-c", "\n".join((path, *lines)), folder=folder).stdout


def service(root: Path, spec: str = SERVICE) -> Path:
    """A small service, where the pages suppose one."""
    require_program("sqlite3")
    for name in ("etc/holdfast", "mnt/keys", "mnt/usb", "srv", "tmp", "quaybot/config"):
        (root / name).mkdir(parents=True)
    folder = root / "quaybot"
    (folder / "backup.yaml").write_text(spec)
    (folder / "config/bot.toml").write_text("prefix = '!'\n")
    rows = "create table players(id integer primary key, name text); insert into players values"
    commit = "git -c user.name=a -c user.email=b commit -qm One"
    typed(folder, "git init -qb main", "git add config", commit, "mkdir data")
    typed(folder, f"sqlite3 data/quaybot.db \"{rows} (17, 'ines')\"")
    return folder


def test_one_file_a_row_and_a_commit_come_back(tmp_path: Path) -> None:
    folder = service(tmp_path)
    typed(folder, "holdfast backup")
    (folder / "config/bot.toml").write_text("broken\n")
    typed(folder, 'sqlite3 data/quaybot.db "delete from players"')
    beside, in_place, parts, stored = page_blocks("restore-one-file.md", "sh", tmp_path)
    beside = beside.replace(' --at "2026-11-20 02:00"', "").replace("diff ", "! diff ")
    typed(folder, beside, in_place, "diff ../tmp/restored/config/bot.toml config/bot.toml", parts)
    typed(folder, 'test "$(sqlite3 data/quaybot.db "select name from players")" = ines')
    (snapshot,) = (one.name for one in (folder / "backups/quaybot/default").glob("2*"))
    typed(folder, re.sub(r"20\d+T\d+Z-nightly-\w+", snapshot, stored))
    assert (tmp_path / "tmp/files/config.tar").exists()


def test_what_is_encrypted_anew_opens_with_the_new_key_alone(tmp_path: Path) -> None:
    make, rekey, by_hand = page_blocks("encrypt.md", "sh", tmp_path)
    (spec,) = page_blocks("encrypt.md", "yaml", tmp_path)
    folder = service(tmp_path, spec)
    recipient = "export BACKUP_RECIPIENT=$(age-keygen -y {key})".format
    keys = tmp_path / "mnt/keys"
    require_program("age")
    typed(folder, make, recipient(key=keys / "quay.key"), "holdfast backup")
    (keys / "quay.key").rename(keys / "old.key")
    first, _, rest = rekey.partition("# in the spec")
    change = f"sed -i s/quay.key/new.key/ backup.yaml\n{recipient(key=keys / 'new.key')}"
    typed(folder, first, change, f"# {rest}")
    (keys / "old.key").unlink()
    shutil.copy(keys / "new.key", tmp_path / "quay.key")
    for snapshot in (tmp_path / "srv/backups/quaybot/default").glob("2*"):
        shutil.copy(tmp_path / "quay.key", snapshot)
        typed(snapshot, "set -o pipefail", by_hand, 'sqlite3 quaybot.db "select * from players"')


def test_a_signed_snapshot_is_checked_by_hand(tmp_path: Path) -> None:
    make, by_hand = page_blocks("sign-snapshots.md", "sh", tmp_path)
    (spec,) = page_blocks("sign-snapshots.md", "yaml", tmp_path)
    folder = service(tmp_path, spec)
    # Here there is one user, and the folder is there.
    alone = re.sub(r"sudo -u \w+ ", "", make.partition("\n")[2])
    shown = typed(folder, alone, "holdfast doctor", "holdfast backup", "holdfast verify")
    assert "the key signs and is allowed" in shown
    (snapshot,) = (tmp_path / "srv/backups/quaybot/default").glob("2*")
    shutil.copy(folder / "allowed_signers", snapshot)
    assert 'Good "holdfast" signature' in typed(snapshot, by_hand)
