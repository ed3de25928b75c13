"""How things stand, on a terminal."""

from __future__ import annotations

from typing import Any

from runner.report.outcome import Outcome
from runner.report.status_words import status_lines

WIDTH = 80

TARGET = {
    "target": "offsite",
    "reachable": True,
    "latency": 0.123,
    "throughput": {"upload": 56.3e6, "download": 58e6, "at": "2026-11-20T02:15:00Z"},
    "free": 1023 * 2**30,
    "snapshots": 1234,
    "oldest": "20231120T021500Z-nightly-7f3a9c",
    "oldest_age": 3 * 365 * 86400,
    "newest": "20261120T021500Z-nightly-8f3a9c",
    "newest_age": 86399.0,
    "if_lost": {"snapshots": [], "sources": [], "set_back": {}, "unknown": []},
    "behind": 0,
}
UNKNOWN = dict.fromkeys(TARGET)


def test_what_a_target_holds_fits_a_terminal() -> None:
    data: dict[str, Any] = {"warnings": [], "sources": [], "policies": []}
    targets = [TARGET, {**UNKNOWN, "target": "nas"}]
    lines = list(status_lines(Outcome("status", {**data, "targets": targets})))
    (head, offsite, nas) = (one for one in lines if one[:7].strip() in ("TARGET", "offsite", "nas"))
    assert max(map(len, (head, offsite, nas))) <= WIDTH
    assert offsite.split()[-4:] == ["1234", "1095d", "23h", "0"]
    assert nas.split() == ["nas", "?", "?", "?", "?", "?", "-", "-", "?"]
