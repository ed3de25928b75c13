"""Git repositories: what people do to one comes back, and nothing else is touched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar

from runner.spec.model import SourceSpec
from tests.source import repository
from tests.source.conformance import Sample, SourceConformance
from tests.source.repository import commit, git


class Committed(Sample):
    """A busy working copy, of which only what is committed counts."""

    options: ClassVar[dict[str, Any]] = {}

    def build(self, folder: Path) -> SourceSpec:
        repository.build(self.root(folder))
        return SourceSpec("code", "git", {"path": "repo"} | self.options, folder)

    def root(self, folder: Path) -> Path:
        return folder / "repo"

    def change(self, folder: Path) -> None:
        root = self.root(folder)
        commit(root, "later.txt", "later\n")
        git(root, "rm", "-q", "main.txt")
        git(root, "commit", "-q", "-m", "removed")
        git(root, "branch", "-q", "-D", "feature/$(touch${IFS}pwned)'s")

    def destroy(self, folder: Path) -> None:
        repository.remove(self.root(folder))

    def observe(self, folder: Path) -> Any:
        return repository.observe(self.root(folder))

    def observe_at(self, destination: str) -> Any:
        return repository.observe(Path(destination))

    def observe_restored(self, folder: Path) -> Any:
        return repository.observe(folder)


class Uncommitted(Committed):
    """The same with work that is not committed yet."""

    options: ClassVar[dict[str, Any]] = {"uncommitted": True}

    def build(self, folder: Path) -> SourceSpec:
        spec = super().build(folder)
        root = self.root(folder)
        (root / "main.txt").write_text("modified\n")
        (root / "history" / "5.txt").unlink()
        (root / "link").unlink()
        (root / "link").mkdir()
        (root / "link" / "now a folder").write_text("x")
        (root / "staged.txt").write_text("staged\n")
        git(root, "add", "staged.txt")
        (root / "un tracked $(touch pwned)").write_text("untracked\n")
        (root / os.fsdecode(b"un\xfftracked\n-x")).write_text("odd\n")
        (root / "a link").symlink_to("/etc/passwd")
        (root / "tool").write_text("#!/bin/sh\n")
        (root / "tool").chmod(0o755)
        return spec

    def change(self, folder: Path) -> None:
        (self.root(folder) / "main.txt").write_text("modified otherwise\n")


class Bare(Committed):
    """A bare repository."""

    def build(self, folder: Path) -> SourceSpec:
        working = folder / "working"
        repository.build(working)
        (working / ".git").rename(folder / "repo")
        git(folder / "repo", "config", "core.bare", "true")
        repository.remove(working)
        return SourceSpec("code", "git", {"path": "repo"}, folder)

    def change(self, folder: Path) -> None:
        git(self.root(folder), "tag", "-d", "v1")

    def observe(self, folder: Path) -> Any:
        return self.observe_at(str(self.root(folder)))

    def observe_at(self, destination: str) -> Any:
        found = repository.observe(Path(destination))
        del found["files"]
        return found | {"bare": git(Path(destination), "rev-parse", "--is-bare-repository")}

    def observe_restored(self, folder: Path) -> Any:
        return self.observe_at(str(folder))


class TestCommitted(SourceConformance):
    sample = Committed()


class TestUncommitted(SourceConformance):
    sample = Uncommitted()


class TestBare(SourceConformance):
    sample = Bare()
