"""What is looked at before a plan is compiled."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.plan.facts import changed_marks
from runner.spec.load import load_spec
from runner.spec.model import Spec

WHOLE_FOLDER = """
version: 1
project: quaybot
state: var/state
sources:
  all: {type: files, paths: ["."], exclude: ["*.log"]}
  inside: {type: files, paths: [backups/older]}
targets:
  here: {type: local, path: backups}
policies:
  nightly: {sources: [all], targets: [here]}
"""


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    """A spec whose folder is backed up whole, with the state and the target in it."""
    for name in ("var/state", "backups/older", "config"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "config/app.yml").write_text("port: 8080\n")
    (tmp_path / "backup.yaml").write_text(WHOLE_FOLDER)
    return load_spec(tmp_path / "backup.yaml", environment={})


def test_a_run_of_ours_changes_no_mark(spec: Spec) -> None:
    before = changed_marks(spec, ["all"])
    (spec.state / "journal").write_text("a run\n")
    (spec.folder / "backups/snapshot").mkdir()
    assert changed_marks(spec, ["all"]) == before
    (spec.folder / "config/app.yml").write_text("port: 9090\n")
    assert changed_marks(spec, ["all"]) != before


def test_a_source_out_of_reach_hides_no_other_s_mark(spec: Spec) -> None:
    declared = (spec.folder / "backup.yaml").read_text()
    gone = "sources:\n  gone: {type: git, url: ./nowhere.git}\n"
    (spec.folder / "backup.yaml").write_text(declared.replace("sources:\n", gone))
    spec = load_spec(spec.folder / "backup.yaml", environment={})
    assert changed_marks(spec, ["gone", "all"]).keys() == {"all"}


def test_what_no_capture_may_contain_has_no_mark(spec: Spec) -> None:
    assert changed_marks(spec, ["inside"]) == {}
