"""A source that fails for days costs the other sources neither reading nor older snapshots."""

from __future__ import annotations

from pathlib import Path

from tests.service import SPEC, Service


def test_only_what_was_left_out_is_tried_again(tmp_path: Path) -> None:
    spec = SPEC.replace("nightly: {", 'nightly: {schedule: "0 2 * * *", ')
    service = Service(tmp_path / "service", spec).build()
    program, database = service.program, service.folder / "data" / "quaybot.db"
    wanted = service.observe()
    database.rename(tmp_path / "away")
    (first,) = program.json("backup", "--due", status=4)["snapshots"]
    assert first["missing"] == ["db"]
    for _ in range(3):
        assert program.json("backup", "--due", status=4)["snapshots"] == []
    assert program.json("status", status=4)["policies"][0]["next_due"] < first["taken_at"]

    (tmp_path / "away").rename(database)
    (second,) = program.json("backup", "--due")["snapshots"]
    assert {one["source"] for one in second["artifacts"]} == {"db"}
    assert program.json("backup", "--due")["snapshots"] == []
    results = program.json("verify", "--target", "disk")["results"]
    assert {one["source"] for one in results} == {"db", "config", "code"}
    assert program.json("status")["policies"][0]["next_due"] > second["taken_at"]
    service.destroy()
    program("dr-restore", "--confirm", "quaybot", status=0)
    assert service.observe() == wanted


def test_by_hand_everything_is_read(tmp_path: Path) -> None:
    spec = SPEC.replace("nightly: {", 'nightly: {schedule: "0 2 * * *", ')
    service = Service(tmp_path / "service", spec).build()
    program, database = service.program, service.folder / "data" / "quaybot.db"
    database.rename(tmp_path / "away")
    program("backup", "--due", status=4)
    (tmp_path / "away").rename(database)
    (whole,) = program.json("backup")["snapshots"]
    assert {one["source"] for one in whole["artifacts"]} == {"db", "config", "code"}
