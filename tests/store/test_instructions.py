"""RESTORE.md: its blocks are extracted and run by bash, on real snapshot folders."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.store.instructions import Section, instructions
from tests.tools import require_program

FACTS = {
    "snapshot": "20261120T021500Z-nightly-7f3a9c",
    "project": "quaybot",
    "profile": "default",
    "created_at": "2026-11-20T02:15:00Z",
    "host": "harbour",
}
CONFIG = Section(
    source="config",
    type="files",
    taken_at="2026-11-20T02:15:00Z",
    lines=("mkdir -p restored/config", "tar -xf config.tar -C restored/config"),
    notes=("a socket was skipped",),
    place="/srv/bot/config",
)


def render(*sections: Section, encrypted: bool = False, **other: str) -> str:
    facts: dict[str, Any] = {**FACTS, **other}
    return instructions(**facts, encrypted=encrypted, sections=sections).decode()


def blocks(text: str, fence: str = "sh") -> list[str]:
    """The blocks fenced as exactly `fence`, as a reader of Markdown finds them."""
    found: list[str] = []
    inside: list[str] | None = None
    info = ""
    for line in text.split("\n"):
        mark = re.match(r" {0,3}(`{3,}|~{3,})(.*)", line)
        if inside is None and mark:
            inside, info = [], mark[2]
        elif inside is not None and mark and mark[1].startswith("```") and not mark[2].strip():
            if info == fence:
                found.append("".join(f"{one}\n" for one in inside))
            inside = None
        elif inside is not None:
            inside.append(line)
    assert inside is None, "a fence stays open"
    return found


def run(folder: Path, text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-e"],
        input="".join(blocks(text)),
        cwd=folder,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def snapshot_folder(folder: Path, *files: Path) -> Path:
    """A folder with these files and their SHA256SUMS."""
    sums = "".join(f"{hashlib.sha256(one.read_bytes()).hexdigest()}  {one.name}\n" for one in files)
    (folder / "SHA256SUMS").write_text(sums)
    return folder


def test_it_says_what_is_not_in_the_folder_and_where_to_look() -> None:
    holder = "20261119T021500Z-nightly-1a2b3c"
    facts: dict[str, Any] = {**FACTS, "unchanged": {"db": holder}, "missing": ["code"]}
    text = instructions(**facts, encrypted=False, sections=[CONFIG]).decode()
    assert f"- not db, which was unchanged: it is in the snapshot {holder}, the folder" in text
    assert "- not code, which could not be captured: take an older snapshot's" in text


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A snapshot folder that holds a tree with one file."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "bot.toml").write_text("token = 1\n")
    folder = tmp_path / "snapshot"
    folder.mkdir()
    subprocess.run(["tar", "-cf", folder / "config.tar", "-C", tree, "."], check=True)
    return snapshot_folder(folder, folder / "config.tar")


def test_it_says_what_this_is_and_what_one_needs() -> None:
    text = render(CONFIG)
    assert "# How to restore 20261120T021500Z-nightly-7f3a9c" in text
    assert "project quaybot, profile default, made at 2026-11-20T02:15:00Z on host" in text
    assert "- config (files), as it was at 2026-11-20T02:15:00Z" in text
    assert "- GNU tar\n" in text
    assert "- Note: a socket was skipped" in text
    assert "It stood at /srv/bot/config." in text
    assert "age" not in text.replace("damaged", "").replace("message", "").split("## ")[2]


def test_the_sums_are_checked_first() -> None:
    assert blocks(render(CONFIG))[0].splitlines()[0] == "sha256sum -c SHA256SUMS"


def test_its_blocks_bring_the_source_back(stored: Path) -> None:
    done = run(stored, render(CONFIG))
    assert done.returncode == 0, done.stderr
    assert (stored / "restored/config/bot.toml").read_text() == "token = 1\n"


def test_a_damaged_file_stops_it_before_anything_is_written(stored: Path) -> None:
    with (stored / "config.tar").open("r+b") as file:
        file.seek(600)
        file.write(b"\xff")
    done = run(stored, render(CONFIG))
    assert done.returncode != 0
    assert "config.tar: FAILED" in done.stdout
    assert not (stored / "restored").exists()


def test_a_failing_stage_of_a_pipeline_stops_it(stored: Path) -> None:
    broken = replace(CONFIG, lines=("false | cat > restored/config", "touch restored/after"))
    assert run(stored, render(broken)).returncode != 0
    assert not (stored / "restored/after").exists()


def test_encrypted_ones_are_opened_with_the_identity_that_is_named(
    stored: Path, tmp_path: Path
) -> None:
    age = require_program("age")
    key = tmp_path / "key.txt"
    subprocess.run(["age-keygen", "-o", key], check=True, capture_output=True)
    recipient = subprocess.run(
        ["age-keygen", "-y", key], check=True, capture_output=True, text=True
    ).stdout.strip()
    sealed = stored / "config.tar.age"
    subprocess.run([age, "-r", recipient, "-o", sealed, stored / "config.tar"], check=True)
    (stored / "config.tar").unlink()
    snapshot_folder(stored, sealed)
    lines = (
        "mkdir -p restored/config",
        'age -d -i "$AGE_IDENTITY" config.tar.age | tar -x -C restored/config',
    )
    text = render(replace(CONFIG, lines=lines), encrypted=True)
    assert "- age (https://age-encryption.org)" in text
    unnamed, misnamed = run(stored, text), run(stored, text, AGE_IDENTITY="/nowhere/key.txt")
    assert unnamed.returncode != 0
    assert "name the file of the age identity in AGE_IDENTITY" in unnamed.stderr
    assert misnamed.returncode != 0
    assert "/nowhere/key.txt" in misnamed.stderr
    assert not (stored / "restored").exists()
    done = run(stored, text, AGE_IDENTITY=str(key))
    assert done.returncode == 0, done.stderr
    assert (stored / "restored/config/bot.toml").exists()


def test_lines_for_a_server_have_a_fence_of_their_own() -> None:
    section = replace(CONFIG, server_lines=("pg_restore -d quay restored/main/quay.dump",))
    text = render(section)
    assert "pg_restore" in blocks(text, "sh server")[0]
    assert not any("pg_restore" in one for one in blocks(text))
    assert "- pg_restore, of the server's version or later" in text


HOSTILE = [
    "a\n```\n```sh\ntouch owned\n```\n",
    "```sh\ntouch owned\n```",
    "`touch owned` $(touch owned)",
    "x\r```sh\rtouch owned\r```",
    "\n~~~\n# heading\n<script>",
    "tab\there \\ 'quote' \"double\"",
    "odd \udcff byte \u2028 end",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_from_outside_opens_no_fence(text: str, stored: Path) -> None:
    section = replace(CONFIG, source=text, type=text, notes=(text,), place=text, taken_at=text)
    rendered = render(section, host=text, project=text, profile=text, created_at=text)
    assert [one.splitlines()[0] for one in blocks(rendered)] == [
        "sha256sum -c SHA256SUMS",
        "set -o pipefail",
    ]
    assert run(stored, rendered).returncode == 0
    assert not (stored / "owned").exists()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_quoted_name_stays_the_same_name(name: str, stored: Path) -> None:
    line = f"printf %s {shlex.quote(name)} > restored/name"
    rendered = render(replace(CONFIG, lines=(line,)))
    assert len(blocks(rendered)) == 2
    done = run(stored, rendered)
    assert done.returncode == 0, done.stderr
    assert (stored / "restored/name").read_bytes() == name.encode("utf-8", "surrogateescape")
    assert not (stored / "owned").exists()


words = st.text(
    st.sampled_from(
        ["`", "~", "\n", "\r", " ", "s", "h", "'", "\\", "#", "$", "\x85", "\x1b", "é"]
    ),
    max_size=25,
)


@given(words, words)
@settings(max_examples=50)
def test_no_text_changes_the_blocks(prose: str, name: str) -> None:
    line = f"printf %s {shlex.quote(name)}"
    section = replace(CONFIG, lines=(line,), notes=(prose,), place=prose)
    found = blocks(render(section, host=prose))
    assert len(found) == 2
    shown = subprocess.run(["bash", "-e"], input=found[1].encode(), capture_output=True, check=True)
    assert shown.stdout == name.encode()
