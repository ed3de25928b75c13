"""What a capture of a git repository holds, in the cases where one could be mistaken."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.errors import PersonNeeded, StepFailed, UsageError
from runner.registry import open_source
from runner.source import Place, Source
from runner.spec.model import SourceSpec
from tests.source import repository
from tests.source.repository import HOME, commit, git
from tests.source.stack import TOKEN, FolderArtifacts, FolderCapture, bash, decode


def source_of(folder: Path, **options: Any) -> Source:
    return open_source(SourceSpec("code", "git", options or {"path": "repo"}, folder))


def captured(source: Source, folder: Path, **options: Any) -> tuple[FolderArtifacts, Any]:
    capture = FolderCapture(folder, "code", **options)
    found = source.capture(capture)
    return FolderArtifacts(capture, found.fingerprint), found


def restored(source: Source, artifacts: FolderArtifacts, destination: Path) -> Path:
    """Stage, prove, swap and confirm at `destination`."""
    place = Place(TOKEN, str(destination))
    source.stage(artifacts, place)
    found = source.fingerprint(place)
    assert list(source.differences(artifacts.fingerprint, found, place)) == []
    source.swap(place)
    source.confirm(place)
    source.discard(place)
    return destination


def by_shell(source: Source, artifacts: FolderArtifacts) -> Path:
    """Restored by the printed commands."""
    lines = source.restore_commands(artifacts.capture.stored, decode, "restored/code")
    bash(lines, artifacts.capture.folder)
    return artifacts.capture.folder / "restored" / "code"


def state(folder: Path) -> list[str]:
    head = (folder / ".git" / "HEAD").read_text()
    shallow = folder / ".git" / "shallow"
    return [
        git(folder, "for-each-ref", "--format=%(objectname) %(refname) %(symref)"),
        head,
        shallow.read_text() if shallow.exists() else "",
        str(repository.files(folder)),
        git(folder, "fsck", "--full", "--no-dangling"),
    ]


def comes_back(folder: Path, **options: Any) -> FolderArtifacts:
    """Both ways of restoring `folder/repo` give the same repository."""
    source = source_of(folder, path="repo", **options)
    artifacts, _ = captured(source, folder / "snapshot")
    original = state(folder / "repo")
    assert state(restored(source, artifacts, folder / "again")) == original
    assert state(by_shell(source, artifacts)) == original
    return artifacts


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    repository.build(tmp_path / "repo")
    return tmp_path / "repo"


def empty(folder: Path, *arguments: str) -> Path:
    folder.mkdir()
    git(folder, "init", "-q", "-b", "trunk", *arguments)
    return folder


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_a_repository_without_a_commit(tmp_path: Path, object_format: str) -> None:
    repo = empty(tmp_path / "repo", f"--object-format={object_format}")
    (repo / "first.txt").write_text("not committed yet\n")
    artifacts = comes_back(tmp_path, uncommitted=True)
    assert artifacts.fingerprint["head"] == "ref: refs/heads/trunk"
    assert (tmp_path / "again" / "first.txt").read_text() == "not committed yet\n"


def test_the_bundle_of_a_repository_without_a_commit_is_one_that_git_reads(tmp_path: Path) -> None:
    empty(tmp_path / "repo")
    artifacts, _ = captured(source_of(tmp_path), tmp_path / "snapshot", compressed=False)
    assert git(tmp_path, "bundle", "list-heads", str(artifacts.key())) == ""


def test_a_sha256_repository(tmp_path: Path) -> None:
    repository.build(tmp_path / "repo", object_format="sha256")
    artifacts = comes_back(tmp_path)
    assert artifacts.fingerprint["object_format"] == "sha256"


def test_a_detached_head_that_no_branch_has(tmp_path: Path, repo: Path) -> None:
    git(repo, "checkout", "-q", "--detach", "HEAD~3")
    commit(repo, "lonely.txt", "only here\n")
    comes_back(tmp_path)
    assert (tmp_path / "again" / "lonely.txt").exists()


def test_a_detached_head_beside_the_branch_that_a_new_repository_begins_with(
    tmp_path: Path, repo: Path
) -> None:
    # Which one that is depends on the version and the settings of git.
    git(repo, "branch", "master")
    git(repo, "checkout", "-q", "--detach", "main~1")
    comes_back(tmp_path)


def test_a_detached_head_where_there_is_no_branch_at_all(tmp_path: Path, repo: Path) -> None:
    git(tmp_path, "init", "-q", "fetched")
    git(tmp_path / "fetched", "fetch", "-q", "--depth", "1", f"file://{repo}", "main")
    git(tmp_path / "fetched", "checkout", "-q", "FETCH_HEAD")
    shutil.rmtree(repo)
    (tmp_path / "fetched").rename(repo)
    comes_back(tmp_path)


def test_a_shallow_clone_stays_shallow(tmp_path: Path, repo: Path) -> None:
    git(tmp_path, "clone", "-q", "--depth", "3", f"file://{repo}", "shallow")
    shutil.rmtree(repo)
    (tmp_path / "shallow").rename(repo)
    artifacts = comes_back(tmp_path)
    assert len(artifacts.fingerprint["shallow"]) > 0


def test_objects_borrowed_from_another_repository_are_included(tmp_path: Path, repo: Path) -> None:
    repo.rename(tmp_path / "lender")
    git(tmp_path, "clone", "-q", "--shared", "lender", "repo")
    source = source_of(tmp_path)
    artifacts, _ = captured(source, tmp_path / "snapshot")
    shutil.rmtree(tmp_path / "lender")
    git(restored(source, artifacts, tmp_path / "again"), "fsck", "--full")


def test_an_ordinary_clone_of_the_bundle_works_too(tmp_path: Path, repo: Path) -> None:
    artifacts, _ = captured(source_of(tmp_path), tmp_path / "snapshot", compressed=False)
    git(repo, "bundle", "verify", str(artifacts.key()))
    git(tmp_path, "clone", "-q", str(artifacts.key()), "clone")
    assert git(tmp_path / "clone", "rev-parse", "HEAD") == git(repo, "rev-parse", "HEAD")


@contextlib.contextmanager
def committing(repo: Path) -> Iterator[None]:
    """Somebody who commits and tags, moves and removes refs, as fast as git can."""
    script = (
        "i=0; while :; do i=$((i+1)); echo $i > busy.txt; git add busy.txt; "
        'git commit -q -m "$i"; git tag "t$i"; git branch -f moving; '
        '[ $i -lt 4 ] || git tag -d "t$((i-3))" > /dev/null; done'
    )
    process = subprocess.Popen(
        ["bash", "-c", script], cwd=repo, env=HOME, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_refs_that_move_meanwhile_never_make_a_torn_snapshot(tmp_path: Path, repo: Path) -> None:
    source = source_of(tmp_path)
    with committing(repo):
        several = [
            captured(source, tmp_path / f"snapshot {number}", compressed=False)
            for number in range(5)
        ]
    for number, (artifacts, found) in enumerate(several):
        listed = git(tmp_path, "bundle", "list-heads", str(artifacts.key())).splitlines()
        names = {name: one for one, name in (line.split(" ") for line in listed)}
        refs = artifacts.fingerprint["refs"]
        assert {name: names[name] for name in refs} == refs
        assert names["HEAD"] == refs["refs/heads/main"]
        assert found.consistency in ("exact", "fuzzy")
        restored(source, artifacts, tmp_path / f"again {number}")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_repository_of_another_user(tmp_path: Path, repo: Path) -> None:
    for path in [repo, *repo.rglob("*")]:
        os.chown(path, 65534, 65534, follow_symlinks=False)
    source = source_of(tmp_path, path="repo", uncommitted=True)
    artifacts, _ = captured(source, tmp_path / "snapshot")
    place = Place(TOKEN)
    source.stage(artifacts, place)
    source.swap(place)
    source.confirm(place)
    source.discard(place)
    assert {path.lstat().st_uid for path in repo.rglob("*")} == {65534}


def test_a_linked_worktree_is_refused(tmp_path: Path, repo: Path) -> None:
    git(repo, "worktree", "add", "-q", str(tmp_path / "linked"), "light")
    with pytest.raises(StepFailed, match="linked worktree") as caught:
        captured(source_of(tmp_path, path="linked"), tmp_path / "snapshot")
    assert str(repo) in caught.value.remedy
    _, found = captured(source_of(tmp_path), tmp_path / "other")
    assert any("linked worktrees" in note for note in found.notes)


def test_a_folder_inside_a_working_copy_is_refused(tmp_path: Path, repo: Path) -> None:
    with pytest.raises(StepFailed, match="lies in that of") as caught:
        captured(source_of(tmp_path, path="repo/history"), tmp_path / "snapshot")
    assert caught.value.remedy == f"Declare the root: path: {repo}"
    assert not source_of(tmp_path, path="repo/history").exists()


def test_no_repository_at_all(tmp_path: Path) -> None:
    source = source_of(tmp_path, path="nothing")
    assert not source.exists()
    assert source.changed_mark() is None
    with pytest.raises(StepFailed, match="not a git repository"):
        captured(source, tmp_path / "snapshot")


def test_a_missing_object_fails_the_capture(tmp_path: Path) -> None:
    repo = empty(tmp_path / "repo")
    commit(repo, "file.txt", "content\n")
    blob = git(repo, "rev-parse", "HEAD:file.txt").strip()
    (repo / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    with pytest.raises(StepFailed, match="cannot all be read") as caught:
        captured(source_of(tmp_path), tmp_path / "snapshot")
    assert "git fsck" in caught.value.remedy


def test_a_ref_that_a_power_cut_emptied_fails_the_capture(tmp_path: Path, repo: Path) -> None:
    git(repo, "checkout", "-q", "-b", "trunk")
    (repo / ".git/refs/heads/trunk").write_text("")
    with pytest.raises(StepFailed, match="broken refs: refs/heads/trunk") as caught:
        captured(source_of(tmp_path), tmp_path / "snapshot")
    assert "logs/refs/heads/trunk" in caught.value.remedy


def test_what_is_not_included_is_said(tmp_path: Path, repo: Path) -> None:
    inner = empty(tmp_path / "inner")
    commit(inner, "inner.txt", "of the submodule\n")
    git(repo, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(inner), "sub")
    git(repo, "commit", "-q", "-m", "submodule")
    empty(repo / "nested")
    (repo / ".git" / "lfs" / "objects").mkdir(parents=True)
    (repo / ".git" / "MERGE_HEAD").write_text("x")
    source = source_of(tmp_path, path="repo", uncommitted=True)
    artifacts, found = captured(source, tmp_path / "snapshot")
    notes = "\n".join(found.notes)
    for word in ("submodules", "LFS", "a merge was in progress", "nested/ is a repository"):
        assert word in notes
    again = restored(source, artifacts, tmp_path / "again")
    assert git(again, "ls-files", "-s", "sub").startswith("160000")


def test_a_repository_without_a_commit_is_told(tmp_path: Path) -> None:
    repo = empty(tmp_path / "new")
    (repo / "work.txt").write_text("nobody has committed it")
    _, found = captured(source_of(tmp_path, path="new"), tmp_path / "snapshot")
    assert found.notes[0] == "it holds no commit at all"
    assert "work.txt" in found.notes[1]


def test_what_a_mirror_does_not_include_is_said(tmp_path: Path, repo: Path) -> None:
    _, found = captured(source_of(tmp_path, url=f"file://{repo}"), tmp_path / "nothing")
    assert found.notes == ()
    (repo / "images").mkdir()
    commit(repo, "images/.gitattributes", "*.png filter=lfs diff=lfs merge=lfs -text\n")
    commit(empty(repo / "nested"), "inner.txt", "of a repository inside\n")
    git(repo, "add", "nested")
    git(repo, "commit", "-q", "-m", "added as if it were files")
    _, found = captured(source_of(tmp_path, url=f"file://{repo}"), tmp_path / "snapshot")
    notes = "\n".join(found.notes)
    assert "submodules" in notes
    assert "LFS" in notes


def test_settings_that_are_data_come_back(tmp_path: Path, repo: Path) -> None:
    value = 'quote " backslash \\ tab \t newline \n semicolon ; hash # end '
    git(repo, "config", "user.name", value)
    git(repo, "config", 'remote.od"d \\ name.url', "ssh://[::1]/x")
    git(repo, "config", "--add", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")
    source = source_of(tmp_path)
    artifacts, _ = captured(source, tmp_path / "snapshot")
    for again in (restored(source, artifacts, tmp_path / "again"), by_shell(source, artifacts)):
        assert git(again, "config", "user.name") == f"{value}\n"
        assert git(again, "config", 'remote.od"d \\ name.url') == "ssh://[::1]/x\n"
        listing = ("config", "--get-all", "remote.origin.fetch")
        assert git(again, *listing) == git(repo, *listing)


def test_uncommitted_work_leaves_out_what_is_ignored(tmp_path: Path, repo: Path) -> None:
    (repo / "x.excluded").write_text("ignored by info/exclude")
    (repo / ".gitignore").write_text("*.log\n")
    (repo / "y.log").write_text("ignored")
    source = source_of(tmp_path, path="repo", uncommitted=True)
    artifacts, _ = captured(source, tmp_path / "snapshot")
    assert set(artifacts.fingerprint["uncommitted"]) == {".gitignore"}


def test_work_that_nobody_asked_for_is_named(tmp_path: Path, repo: Path) -> None:
    """It would be lost: a person shall know before the bad day."""
    source = source_of(tmp_path, path="repo")
    assert captured(source, tmp_path / "clean")[1].notes == ()
    (repo / "main.txt").write_text("a hotfix that was never committed\n")
    (repo / "new.txt").write_text("and a file that git does not know\n")
    (repo / "x.excluded").write_text("ignored by info/exclude")
    asked = source_of(tmp_path, path="repo", uncommitted=True)
    assert captured(asked, tmp_path / "asked")[1].notes == ()
    (note,) = captured(source, tmp_path / "worked")[1].notes
    assert note == (
        "not committed, so not included: main.txt, new.txt (`uncommitted: true` takes that in)"
    )


def test_the_mark_ignores_what_no_capture_contains(tmp_path: Path, repo: Path) -> None:
    source = source_of(tmp_path, path="repo", uncommitted=True)
    state = repo / "state"
    state.mkdir()
    before = source.changed_mark([state])
    (state / "journal").write_text("a run began\n")
    assert source.changed_mark([state]) == before
    (repo / "notes.txt").write_text("work\n")
    assert source.changed_mark([state]) != before


@pytest.mark.parametrize(
    "name", ["hooks/pre-commit", "info/exclude", "info/attributes", "description", "config"]
)
def test_what_lies_beside_the_refs_is_not_unchanged(tmp_path: Path, repo: Path, name: str) -> None:
    source = source_of(tmp_path)
    before = source.changed_mark()
    path = repo / ".git" / name
    path.parent.mkdir(exist_ok=True)
    with path.open("a") as file:
        file.write("# a new line\n")
    assert source.changed_mark() != before


def test_a_remote_s_other_head_is_not_unchanged(tmp_path: Path, repo: Path) -> None:
    source = source_of(tmp_path, url=f"file://{repo}")
    git(repo, "branch", "-q", "trunk")
    before = source.changed_mark()
    git(repo, "symbolic-ref", "HEAD", "refs/heads/trunk")
    assert source.changed_mark() != before


def test_uncommitted_work_in_the_middle_of_staging(tmp_path: Path, repo: Path) -> None:
    """Staged one way, changed another: what counts is what lies in the working tree."""
    (repo / "main.txt").write_text("staged\n")
    git(repo, "add", "main.txt")
    git(repo, "show", "HEAD:main.txt")
    git(repo, "rm", "-q", "--cached", "history/1.txt")
    (repo / "both.txt").write_text("added, then removed\n")
    git(repo, "add", "both.txt")
    (repo / "both.txt").unlink()
    comes_back(tmp_path, uncommitted=True)


def test_work_behind_a_link_that_took_a_folder_s_place_is_gone(tmp_path: Path, repo: Path) -> None:
    (repo / "history").rename(tmp_path / "a larger disk")
    (repo / "history").symlink_to(tmp_path / "a larger disk")
    (repo / "deep").rename(repo / "moved")
    (repo / "deep").symlink_to("moved")
    comes_back(tmp_path, uncommitted=True)


def test_files_in_place_of_folders(tmp_path: Path, repo: Path) -> None:
    shutil.rmtree(repo / "history")
    (repo / "history").write_text("a file now\n")
    comes_back(tmp_path, uncommitted=True)


@pytest.mark.parametrize("flag", ["--skip-worktree", "--assume-unchanged"])
def test_work_that_git_was_told_to_overlook(tmp_path: Path, repo: Path, flag: str) -> None:
    source = source_of(tmp_path, path="repo", uncommitted=True)
    git(repo, "update-index", flag, "main.txt", "history/1.txt")
    before = source.changed_mark()
    (repo / "main.txt").write_text("settings of this host alone\n")
    assert source.changed_mark() != before
    assert set(comes_back(tmp_path, uncommitted=True).fingerprint["uncommitted"]) == {"main.txt"}


def test_what_a_sparse_checkout_leaves_out_is_not_deleted(tmp_path: Path, repo: Path) -> None:
    git(repo, "sparse-checkout", "set", "deep")
    (repo / "main.txt").write_text("changed\n")
    source = source_of(tmp_path, path="repo", uncommitted=True)
    artifacts, _ = captured(source, tmp_path / "snapshot")
    assert set(artifacts.fingerprint["uncommitted"]) == {"main.txt"}


def test_a_change_in_the_second_of_the_commit(tmp_path: Path, repo: Path) -> None:
    """Git compares whole seconds: only the index's own time tells it to look at the content."""
    written = set[int]()
    while len(written) != 1:
        written = set()
        for content in ("debug = 0\n", "debug = 1\n"):
            (repo / "main.txt").write_text(content)
            os.utime(repo / "main.txt", (1_700_000_000, 1_700_000_000))
            written.add(int((repo / "main.txt").stat().st_ctime))
            if content == "debug = 0\n":
                git(repo, "commit", "-q", "--allow-empty", "-a", "-m", "off")
    os.utime(repo / ".git" / "index", (1_700_000_000, 1_700_000_000))
    assert set(comes_back(tmp_path, uncommitted=True).fingerprint["uncommitted"]) == {"main.txt"}


def test_a_stash_whose_older_ones_have_expired(tmp_path: Path, repo: Path) -> None:
    log = repo / ".git" / "logs" / "refs" / "stash"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[1:]))
    git(repo, "gc", "-q", "--prune=now")
    source = source_of(tmp_path)
    artifacts, _ = captured(source, tmp_path / "snapshot")
    for again in (restored(source, artifacts, tmp_path / "again"), by_shell(source, artifacts)):
        assert git(again, "stash", "list") == git(repo, "stash", "list")
        git(again, "fsck", "--full", "--no-dangling")


def test_attributes_of_this_repository_alone(tmp_path: Path, repo: Path) -> None:
    (repo / ".git" / "info" / "attributes").write_text("*.txt eol=crlf\n")
    (repo / "main.txt").unlink()
    git(repo, "checkout", "main.txt")
    assert b"\r\n" in (repo / "main.txt").read_bytes()
    source = source_of(tmp_path)
    artifacts, _ = captured(source, tmp_path / "snapshot")
    for again in (restored(source, artifacts, tmp_path / "again"), by_shell(source, artifacts)):
        assert (again / "main.txt").read_bytes() == (repo / "main.txt").read_bytes()


def test_a_link_to_itself_is_captured_as_a_link(tmp_path: Path, repo: Path) -> None:
    (repo / "loop").symlink_to("loop")
    source = source_of(tmp_path, path="repo", uncommitted=True)
    artifacts, _ = captured(source, tmp_path / "snapshot")
    assert "loop" in artifacts.fingerprint["uncommitted"]


def test_a_remote(tmp_path: Path, repo: Path) -> None:
    url = f"file://{repo}"
    source = source_of(tmp_path, url=url)
    assert source.exists()
    before = source.changed_mark()
    artifacts, _ = captured(source, tmp_path / "snapshot")
    again = restored(source, artifacts, tmp_path / "again")
    wanted = git(repo, "for-each-ref", "--format=%(objectname) %(refname)")
    assert git(again, "for-each-ref", "--format=%(objectname) %(refname)") == wanted
    assert git(again, "symbolic-ref", "HEAD") == "refs/heads/main\n"
    assert git(again, "config", "remote.origin.url") == f"{url}\n"
    assert (again / "main.txt").read_text() == "main\n"
    commit(repo, "more.txt", "more\n")
    assert source.changed_mark() != before
    with pytest.raises(PersonNeeded, match="nothing is written there") as caught:
        source.stage(artifacts, Place(TOKEN))
    assert f"Add `path: FOLDER` to `sources.{source.name}`" in caught.value.remedy
    assert source.paths == ()


def test_a_remote_is_restored_to_its_clone(tmp_path: Path, repo: Path) -> None:
    git(tmp_path, "clone", "-q", str(repo), "clone")
    source = source_of(tmp_path, url=f"file://{repo}", path="clone")
    assert source.paths == (tmp_path / "clone",)
    artifacts, _ = captured(source, tmp_path / "snapshot")
    commit(tmp_path / "clone", "main.txt", "not captured\n")
    before = git(repo, "for-each-ref")
    place = Place(TOKEN)
    source.stage(artifacts, place)
    source.swap(place)
    source.confirm(place)
    source.discard(place)
    assert (tmp_path / "clone" / "main.txt").read_text() == "main\n"
    assert git(tmp_path / "clone", "config", "remote.origin.url") == f"file://{repo}\n"
    assert git(repo, "for-each-ref") == before


def test_a_clone_is_there_without_its_remote(tmp_path: Path, repo: Path) -> None:
    url = f"file://{tmp_path / 'gone.git'}"
    git(tmp_path, "clone", "-q", str(repo), "clone")
    source = source_of(tmp_path, url=url, path="clone")
    assert source.exists()
    (found,) = source.examine()
    assert (found.verdict, found.found) == ("FAIL", f"{url} does not answer")
    assert not source_of(tmp_path, url=url, path="elsewhere").exists()


def test_a_remote_that_is_a_program_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "pwned"
    with pytest.raises(StepFailed):
        captured(source_of(tmp_path, url=f"ext::touch {marker}"), tmp_path / "snapshot")
    assert not marker.exists()


def test_include_is_refused(tmp_path: Path, repo: Path) -> None:
    source = source_of(tmp_path)
    artifacts, _ = captured(source, tmp_path / "snapshot")
    with pytest.raises(UsageError, match="restored whole") as caught:
        source.stage(artifacts, Place(TOKEN, include=("*.txt",)))
    assert "git -C FOLDER show" in caught.value.remedy


def test_contents_name_every_ref(tmp_path: Path, repo: Path) -> None:
    source = source_of(tmp_path)
    artifacts, _ = captured(source, tmp_path / "snapshot")
    found = {one.name: one.kind for one in source.contents(artifacts)}
    assert found["HEAD"] == "ref: refs/heads/main"
    assert found["refs/tags/v1"] == f"ref {git(repo, 'rev-parse', 'v1').strip()}"
    assert r"refs/heads/na\xefve" in found


def test_it_is_quick(tmp_path: Path, repo: Path) -> None:
    """Each git process costs; a capture of refs alone starts six."""
    counter = tmp_path / "count"
    wrapper = tmp_path / "bin" / "git"
    wrapper.parent.mkdir()
    real = shutil.which("git")
    wrapper.write_text(f'#!/bin/sh\necho "$1" >> {counter}\nexec {real} "$@"\n')
    wrapper.chmod(0o755)
    code = (
        "import sys; from pathlib import Path; from tests.source.test_git_capture import *; "
        "captured(source_of(Path(sys.argv[1])), Path(sys.argv[1]) / 'snapshot')"
    )
    path = f"{wrapper.parent}:{os.environ['PATH']}"
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=os.environ | {"PATH": path}, check=True
    )
    assert len(counter.read_text().splitlines()) == 6
