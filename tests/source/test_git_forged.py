"""Artifacts that somebody else made: nothing of them gets out of the tree, or runs."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import StepFailed
from runner.source import Place, git_extras, git_work
from runner.source.git_command import text
from runner.source.git_extras import format_settings, read_settings
from runner.source.git_refs import Refs, read_bundle
from tests.source.repository import commit, git
from tests.source.stack import TOKEN, FolderArtifacts
from tests.source.test_git_capture import captured, source_of


def tar(*members: tuple[str, bytes, str]) -> Iterator[bytes]:
    """A tar of (name, type, content or target)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.mode = kind, 0o644
            data = content.encode() if kind == tarfile.REGTYPE else b""
            member.size = len(data)
            if kind != tarfile.REGTYPE:
                member.linkname = content
            archive.addfile(member, io.BytesIO(data))
    return iter([buffer.getvalue()])


FILE, LINK = tarfile.REGTYPE, tarfile.SYMTYPE


@pytest.mark.parametrize(
    "members",
    [
        [("../outside/x", FILE, "x")],
        [("/tmp/holdfast-outside", FILE, "x")],
        [("a/../../outside/x", FILE, "x")],
        [(".git/hooks/post-checkout", FILE, "x")],
        [("sub/.GIT/config", FILE, "x")],
        [("way", LINK, "../outside"), ("way/x", FILE, "x")],
        [("tracked link/x", FILE, "x")],
        [("x", tarfile.LNKTYPE, "../outside/precious")],
        [("x", tarfile.CHRTYPE, "")],
        [("x", tarfile.FIFOTYPE, "")],
        [("", FILE, "x")],
    ],
)
def test_work_that_reaches_out_of_the_tree_is_refused(
    tmp_path: Path, members: list[tuple[str, bytes, str]]
) -> None:
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    tree.mkdir()
    outside.mkdir()
    (outside / "precious").write_text("precious")
    (tree / "tracked link").symlink_to(outside)
    with pytest.raises(StepFailed):
        git_work.put_back(tar(*members), [], tree)
    assert [path.name for path in outside.iterdir()] == ["precious"]
    assert not Path("/tmp/holdfast-outside").exists()


@pytest.mark.parametrize("path", [b"../outside/precious", b"tracked link/precious", b".git/HEAD"])
def test_deletions_outside_of_the_tree_are_refused(tmp_path: Path, path: bytes) -> None:
    tree, outside = tmp_path / "tree", tmp_path / "outside"
    tree.mkdir()
    outside.mkdir()
    (outside / "precious").write_text("precious")
    (tree / "tracked link").symlink_to(outside)
    with pytest.raises(StepFailed):
        git_work.put_back(tar(), [path], tree)
    assert (outside / "precious").exists()


def test_a_file_never_writes_through_the_link_it_replaces(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("precious")
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "link").symlink_to(tmp_path / "outside")
    git_work.put_back(tar(("link", FILE, "mine")), [], tree)
    assert (tmp_path / "outside").read_text() == "precious"
    assert (tree / "link").read_text() == "mine"


def forged(folder: Path, change: Callable[[bytes], bytes]) -> FolderArtifacts:
    """A snapshot whose bundle was changed, hashes and all."""
    repo = folder / "repo"
    repo.mkdir()
    git(repo, "init", "-q", "-b", "main")
    commit(repo, "file", "content\n")
    artifacts, _ = captured(source_of(folder), folder / "snapshot", compressed=False)
    data = change(artifacts.key().read_bytes())

    class Forged(FolderArtifacts):
        def read(self, part: str = "") -> Iterator[bytes]:
            return super().read(part) if part else iter([data])

    return Forged(artifacts.capture, artifacts.fingerprint)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"refs/heads/main", b"refs/../../hooks/x"),
        (b"refs/heads/main", b"refs/heads/a..b"),
        (b"# v2 git bundle\n", b"# v2 git bundle\n-" + b"1" * 40 + b" needed\n"),
        (b"# v2 git bundle\n", b"# v3 git bundle\n@object-format=sha512\n"),
        (b"# v2 git bundle\n", b"# v3 git bundle\n@object-format=--bare\n"),
        (b"# v2 git bundle\n", b"something else\n"),
    ],
)
def test_a_forged_bundle_is_refused(tmp_path: Path, old: bytes, new: bytes) -> None:
    artifacts = forged(tmp_path, lambda data: data.replace(old, new, 1))
    source = source_of(tmp_path)
    place = Place(TOKEN, str(tmp_path / "again"))
    with pytest.raises(StepFailed):
        source.stage(artifacts, place)
    assert source.staged(place) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["repo", "snapshot"]


def test_a_config_with_an_odd_member_is_refused() -> None:
    with pytest.raises(StepFailed, match="odd member"):
        git_extras.read(tar(("HEAD", LINK, "/etc/passwd")))
    with pytest.raises(StepFailed, match="not whole"):
        git_extras.read(tar(("HEAD", FILE, "x")))


def test_a_hook_with_a_path_for_a_name_is_no_hook() -> None:
    found = git_extras.Extras({"hooks/../../x": b"", "hooks/a/b": b"", "hooks/update": b"code"})
    assert found.hooks == {"update": b"code"}


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_are_a_bundle_or_refused(data: bytes, size: int) -> None:
    start = b"# v2 git bundle\n"
    for whole in (data, start + data, start + b"\n" + data):
        chunks = (whole[at : at + size] for at in range(0, len(whole), size))
        try:
            refs, rest = read_bundle(chunks)
        except StepFailed:
            continue
        assert isinstance(refs, Refs)
        assert whole.endswith(b"".join(rest))


@given(st.binary(), st.binary())
def test_two_names_never_have_the_same_text(one: bytes, other: bytes) -> None:
    assert (text(one) == text(other)) == (one == other)
    text(one).encode()


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r"), min_size=1, max_size=20)
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=40)


def test_git_reads_settings_as_they_were_written(tmp_path: Path) -> None:
    @given(st.lists(st.tuples(NAMES, VALUES), max_size=8))
    def check(found: list[tuple[str, str]]) -> None:
        settings = [(f"branch.{name}.description", value) for name, value in found]
        (tmp_path / "config").write_text(format_settings(settings))
        assert read_settings(tmp_path / "config") == settings

    check()


def test_settings_that_run_programs_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        '[core]\nsshCommand = x\nautocrlf = true\n[remote "a"]\nurl = ext::sh -c x\n'
        'pushurl = --upload-pack=x\nuploadpack = x\nurl = https://example.org\n[alias]\nx = "!x"\n'
        '[include]\npath = other\n[branch "x\\ncore.sshCommand"]\nmergeoptions = x\n'
    )
    assert read_settings(tmp_path / "config") == [
        ("core.autocrlf", "true"),
        ("remote.a.url", "https://example.org"),
    ]
