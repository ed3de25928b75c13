"""The `redis` source against real servers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runner.source import Place
from tests.redis_server import RedisServer, running
from tests.source.conformance import SourceConformance, place_in
from tests.source.redis_sample import RedisSample

pytestmark = pytest.mark.usefixtures("no_scratch_left")


@pytest.fixture(scope="module")
def open_server() -> Iterator[RedisServer]:
    """Without a password: commands are run as written, where no environment has one."""
    with running(password="") as server:
        yield server


class TestRedis(SourceConformance):
    sample = RedisSample()

    @pytest.fixture(autouse=True)
    def _server(self, open_server: RedisServer) -> None:
        self.sample.server = open_server

    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        """The suite wants what was captured and nothing else."""
        return replace(place_in(tmp_path), existing="flush")
