"""Two projects that bear one name by mistake: each is told, before one takes the other's place."""

from __future__ import annotations

from pathlib import Path

from tests.service import SPEC, Service

WORDS = "backs up as quaybot (default) too"


def test_a_snapshot_of_another_folder_is_told(tmp_path: Path) -> None:
    spec = SPEC.replace("path: backups", "path: ../shared").replace("elsewhere", "../far")
    one, other = (Service(tmp_path / name, spec).build() for name in ("one", "other"))
    one.program("backup", status=0)
    assert one.program.json("status")["warnings"] == []
    other.program("backup", status=0)
    assert other.program.json("status")["warnings"] == []

    (warning,) = one.program.json("status")["warnings"]
    assert WORDS in warning
    assert str(one.folder) in warning
    answer = one.program("restore", "--source", "db", status=7)
    assert WORDS in answer.stdout + answer.stderr

    one.program("backup", status=0)
    assert one.program.json("status")["warnings"] == []
    assert WORDS in other.program("status").stdout
