"""A forged archive never leaves its staging folder, whether its list was forged with it or not."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from runner.errors import StepFailed
from runner.source import Place
from runner.source.files import FilesSource
from runner.source.files_entry import entry_line
from runner.source.tar_stream import TarRefused
from runner.spec.model import SourceSpec
from tests.source.stack import TOKEN, tree
from tests.tools import require_program

require_program("tar")

KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "link",
    tarfile.LNKTYPE: "hardlink",
    tarfile.FIFOTYPE: "fifo",
    tarfile.CHRTYPE: "other",
}


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    return info


class Forged:
    """Artifacts with any members, and a list that agrees with them, or any other."""

    parts = ("", "entries")

    def __init__(
        self, members: Sequence[tarfile.TarInfo], listed: Sequence[tarfile.TarInfo] | None = None
    ) -> None:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
            for info in members:
                tar.addfile(info)
        lines = [self._line(info) for info in (members if listed is None else listed)]
        self._parts = {"": out.getvalue(), "entries": "".join(lines).encode()}
        digest = hashlib.sha256(self._parts["entries"]).hexdigest()
        self.fingerprint: dict[str, Any] = {"format": 1, "roots": ["config"], "sha256": digest}

    def read(self, part: str = "") -> Iterator[bytes]:
        yield self._parts[part]

    def _line(self, info: tarfile.TarInfo) -> str:
        kind = KINDS[info.type]
        digest = hashlib.sha256().hexdigest() if kind == "file" else ""
        name, link = info.name.removeprefix("./"), info.linkname.removeprefix("./").encode()
        return entry_line(name, kind, (info.mode, 0, 0, 0, 0), digest, link, "{}")


@pytest.fixture
def source(tmp_path: Path) -> FilesSource:
    (tmp_path / "app/config").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    return FilesSource(SourceSpec("config", "files", {"paths": ["config"]}, tmp_path / "app"))


FOLDER = member("config", tarfile.DIRTYPE)
OUT = member("config/out", tarfile.SYMTYPE, "../../outside")


@pytest.mark.parametrize(
    "members",
    [
        pytest.param([member("/config/x")], id="absolute"),
        pytest.param([member("config/../../outside/x")], id="parent"),
        pytest.param([member("..")], id="only the parent"),
        pytest.param([FOLDER, member("config/./x")], id="dot"),
        pytest.param([FOLDER, member("config//x")], id="empty part"),
        pytest.param([FOLDER, OUT, member("config/out/x")], id="through a link"),
        pytest.param([FOLDER, OUT, member("config/out/a/b/x")], id="deep through a link"),
        pytest.param(
            [
                FOLDER,
                OUT,
                member("config/in", tarfile.LNKTYPE, "config/out"),
                member("config/in/x"),
            ],
            id="through a hard link to a link",
        ),
        pytest.param(
            [
                FOLDER,
                member("config/a", tarfile.DIRTYPE),
                member("config/a/x"),
                member("config/a", tarfile.SYMTYPE, "/tmp"),
                member("config/a/y"),
            ],
            id="a folder that becomes a link",
        ),
        pytest.param(
            [FOLDER, member("config/x", tarfile.LNKTYPE, "/etc/passwd")], id="hard link outside"
        ),
        pytest.param(
            [FOLDER, member("config/x", tarfile.LNKTYPE, "../secret")], id="hard link to the parent"
        ),
        pytest.param(
            [FOLDER, OUT, member("config/x", tarfile.LNKTYPE, "config/out/x")],
            id="hard link through a link",
        ),
        pytest.param([member("config/null", tarfile.CHRTYPE)], id="device"),
        pytest.param([member("etc/cron.d/x")], id="another root"),
    ],
)
def test_what_could_escape_is_refused_even_if_it_is_listed(
    source: FilesSource, tmp_path: Path, members: list[tarfile.TarInfo]
) -> None:
    (tmp_path / "outside/x").write_text("untouched")
    before = tree(tmp_path)
    with pytest.raises(TarRefused):
        source.stage(Forged(members), Place(TOKEN))
    assert source.staged(Place(TOKEN)) is None
    source.discard(Place(TOKEN))
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("members", "listed"),
    [
        pytest.param([FOLDER, OUT], [FOLDER], id="an unlisted link out of the tree"),
        pytest.param(
            [FOLDER, OUT],
            [FOLDER, member("config/out", tarfile.SYMTYPE, "../../elsewhere")],
            id="a link to another place",
        ),
        pytest.param([FOLDER, member("config/x")], [FOLDER], id="more than is listed"),
        pytest.param([FOLDER], [FOLDER, member("config/x")], id="less than is listed"),
        pytest.param([FOLDER, member("config/y")], [FOLDER, member("config/x")], id="another name"),
    ],
)
def test_what_the_list_does_not_say_is_refused(
    source: FilesSource, members: list[tarfile.TarInfo], listed: list[tarfile.TarInfo]
) -> None:
    with pytest.raises(TarRefused):
        source.stage(Forged(members, listed), Place(TOKEN))
    assert source.staged(Place(TOKEN)) is None


def test_a_listed_link_out_of_the_tree_is_restored(source: FilesSource) -> None:
    source.stage(Forged([FOLDER, OUT]), Place(TOKEN))
    staged = source.staged(Place(TOKEN))
    assert staged is not None
    assert (staged / "config/out").readlink() == Path("../../outside")


def test_a_list_that_is_not_the_fingerprint_s_is_refused(source: FilesSource) -> None:
    forged = Forged([FOLDER])
    forged.fingerprint["sha256"] = hashlib.sha256(b"another").hexdigest()
    with pytest.raises(StepFailed, match="fingerprint"):
        source.stage(forged, Place(TOKEN))


@pytest.mark.parametrize("root", ["/etc", "../outside", "config/../..", ""])
def test_a_forged_root_is_refused(source: FilesSource, tmp_path: Path, root: str) -> None:
    forged = Forged([FOLDER])
    forged.fingerprint["roots"] = [root]
    with pytest.raises(StepFailed):
        source.stage(forged, Place(TOKEN, str(tmp_path / "elsewhere")))
    source.discard(Place(TOKEN, str(tmp_path / "elsewhere")))
    assert list((tmp_path / "outside").iterdir()) == []
