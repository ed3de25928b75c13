"""A repository whose settings and hooks run programs: none of them runs here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from runner.source import Place
from tests.source import repository
from tests.source.repository import HOME, git
from tests.source.stack import TOKEN
from tests.source.test_git_capture import by_shell, captured, restored, source_of


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    repository.build(tmp_path / "repo")
    return tmp_path / "repo"


HOSTILE = """
[core]
\tfsmonitor = touch {marker}; false
\tsshCommand = touch {marker}
\teditor = touch {marker}
\thooksPath = {hooks}
\talternateRefsCommand = touch {marker}
[filter "evil"]
\tclean = touch {marker}; cat
\tsmudge = touch {marker}; cat
\tprocess = touch {marker}
\trequired = true
[diff "evil"]
\tcommand = touch {marker}
[remote "evil"]
\turl = ext::sh -c 'touch {marker}'
\tfetch = +refs/heads/*:refs/remotes/evil/*
\tuploadpack = touch {marker};
[protocol "ext"]
\tallow = always
[include]
\tpath = {included}
[pager]
\tfor-each-ref = touch {marker}
"""


def make_hostile(repo: Path, folder: Path) -> Path:
    """Let every setting and hook that could run a program leave a mark."""
    marker, hooks = folder / "pwned", folder / "hooks"
    hooks.mkdir()
    for name in ("post-checkout", "reference-transaction", "post-index-change", "pre-commit"):
        for place in (hooks, repo / ".git" / "hooks"):
            (place / name).write_text(f"#!/bin/sh\ntouch {marker}\n")
            (place / name).chmod(0o755)
    (folder / "included").write_text(f"[core]\n\tfsmonitor = touch {marker}\n")
    (repo / ".gitattributes").write_text("* filter=evil diff=evil\n")
    with (repo / ".git" / "config").open("a") as config:
        config.write(HOSTILE.format(marker=marker, hooks=hooks, included=folder / "included"))
    return marker


def test_a_hostile_repository_runs_nothing(tmp_path: Path, repo: Path) -> None:
    marker = make_hostile(repo, tmp_path)
    (repo / "main.txt").write_text("dirty\n")
    subprocess.run(["git", "status"], cwd=repo, env=HOME, capture_output=True, check=False)
    assert marker.exists(), "the traps work"
    marker.unlink()
    source = source_of(tmp_path, path="repo", uncommitted=True)
    source.exists()
    source.changed_mark()
    artifacts, _ = captured(source, tmp_path / "snapshot")
    source.gate(Place(TOKEN))
    again = restored(source, artifacts, tmp_path / "again")
    assert not marker.exists()
    place = Place(TOKEN)
    source.stage(artifacts, place)
    source.fingerprint(place)
    source.swap(place)
    source.confirm(place)
    assert not marker.exists()
    for one in (again, repo):
        git(one, "status")
        git(one, "checkout", "-q", "-f", "HEAD~1")
        assert not marker.exists()
        assert "touch" not in (one / ".git" / "config").read_text()
        assert "touch" in (one / ".git" / "config.captured").read_text()
        assert not os.access(one / ".git" / "hooks" / "pre-commit", os.X_OK)


def test_the_printed_commands_take_no_program_from_a_hostile_config(
    tmp_path: Path, repo: Path
) -> None:
    marker = make_hostile(repo, tmp_path)
    source = source_of(tmp_path)
    artifacts, _ = captured(source, tmp_path / "snapshot")
    made = by_shell(source, artifacts)
    assert "touch" not in (made / ".git" / "config").read_text()
    assert git(made, "config", "remote.origin.url").strip() == "https://example.org/a'b $c.git"
    assert not marker.exists()
