"""PostgreSQL: everything that pg_dump finds hard, there and back, on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.daemon import end_daemons
from tests.postgres_server import Servers, fresh_database
from tests.source.conformance import SourceConformance
from tests.source.postgres_sample import HardSample, make_template
from tests.source.stack import Stack


class TestHard(SourceConformance):
    sample = HardSample()

    @pytest.fixture
    def stack(self, tmp_path: Path, servers: Servers) -> Iterator[Stack]:
        make_template(servers.debian())
        with fresh_database(servers.debian()) as database:
            self.sample.database = database
            yield Stack(tmp_path / "production", self.sample)
        for folder in (path.parent for path in tmp_path.rglob("*.process")):
            end_daemons(folder)
