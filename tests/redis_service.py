"""A small service whose sessions are in Redis, for end-to-end tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from runner.owner import Owner, alive
from tests.faults.bad_day import steady
from tests.redis_server import PASSWORD, RedisServer
from tests.source.redis_sample import fill, look
from tests.tools import Answer, Program

VARIABLE = "QUAY_REDIS_PASSWORD"
CHECKS = {
    "cache": [
        {"name": "keys", "redis": "DBSIZE", "at_least": 10},
        {"name": "coins", "redis": "get coins:1", "expect": "10"},
    ]
}
RECOVERY = [
    {"restore": ["cache"]},
    {"name": "answers", "probe": {"redis": "EXISTS coins:1", "source": "cache"}, "drill": "same"},
]


class RedisService:
    """A spec in a folder of its own, and the server that it names."""

    def __init__(self, folder: Path, server: RedisServer, **options: Any) -> None:
        self.folder = folder
        self.server = server
        folder.mkdir(parents=True)
        self.program = Program(folder, {VARIABLE: server.password})
        self.source = {"type": "redis", "url": server.url, **options}
        if server.password:
            self.source["password"] = {"secret": f"env:{VARIABLE}"}
        self.declare()

    def declare(self, **more: Any) -> None:
        """Write the spec, with more sections."""
        spec = {
            "version": 1,
            "project": "quay",
            "sources": {"cache": self.source},
            "targets": {"disk": {"type": "local", "path": "backups"}},
            **more,
        }
        (self.folder / "backup.yaml").write_text(yaml.safe_dump(spec, sort_keys=False))

    def fill(self) -> RedisService:
        """Make the content."""
        fill(self.server)
        return self

    @property
    def content(self) -> Any:
        """What the service keeps, read without the project's code."""
        with self.server.connect() as client:
            return look(client)

    def __call__(self, *arguments: str | Path, status: int | None = None) -> Answer:
        """Run the program; whatever it is given, it ends in words, and tells no secret."""
        answer = steady(self.program(*arguments, status=status))
        assert PASSWORD not in answer.stdout + answer.stderr
        return answer

    def json(self, *arguments: str | Path, status: int = 0) -> Any:
        """The same with `--json`; the object that it prints."""
        return self(*arguments, "--json", status=status).json

    def snapshots(self) -> list[Path]:
        """The folders at the target that have a manifest, oldest first."""
        return sorted(path.parent for path in self.folder.glob("backups/**/manifest.json"))

    def scratch_servers(self) -> list[Owner]:
        """The scratch servers that are noted and run."""
        found = []
        for path in (self.folder / ".holdfast").rglob("*.process"):
            try:
                note = json.loads(path.read_text())
            except (FileNotFoundError, ValueError):
                continue
            if "owner" in note:
                found.append(Owner.from_json(note["owner"]))
        return [one for one in found if alive(one)]

    def leftovers(self) -> list[str]:
        """Scratch folders, unfinished snapshots and files."""
        return sorted(
            str(path.relative_to(self.folder))
            for path in self.folder.rglob("*")
            if path.name.endswith((".partial", ".process"))
            or (".holdfast" in path.parts and path.parent.name in {"scratch", "workspaces"})
            or (path.name.startswith("cache.") and path.parent not in self.snapshots()
                and path.parent.name != "safety")
        )  # fmt: skip
