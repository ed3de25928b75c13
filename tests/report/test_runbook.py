"""The runbook: nothing that a spec says leaves the line or the fence where it belongs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from runner.report.runbook import render
from runner.spec.load import load_spec
from tests.plan.world import world
from tests.report.test_measure import FACTS
from tests.spec.builders import SMALL, write_spec

HOSTILE = """\
recovery:
  - {restore: [db, config]}
  - name: print
    run: |
      cat <<'E' > told
      ```
      # `rm -rf /` $(reboot)
      E
    env: {GREETING: "it's $$HOME `id`"}
  - {name: look, manual: "Press <b>here</b>\\n```sh\\ntouch escaped\\n```\\n# Done"}
"""
BLOCK = re.compile(r"^(`{3,})sh\n(.*?)^\1$", re.DOTALL | re.MULTILINE)


def test_hostile_text_stays_where_it_belongs(tmp_path: Path) -> None:
    spec = load_spec(write_spec(tmp_path, SMALL + HOSTILE), None, environment={})
    made = world(spec, {**FACTS, "ask": {"kind": "dr-restore"}})
    document = render(spec, made.compile())
    blocks = [block for _, block in BLOCK.findall(document)]
    assert not any("touch escaped" in block for block in blocks)
    outside = BLOCK.sub("", document).splitlines()
    headings = [line for line in outside if line.startswith("# ")]
    assert headings == ["# Recovery of quaybot (default)"]
    (printing,) = (block for block in blocks if "told" in block)
    subprocess.run(["bash", "-e"], input=printing, cwd=tmp_path, text=True, check=True)
    assert (tmp_path / "told").read_text() == "```\n# `rm -rf /` $(reboot)\n"
    assert "export GREETING='it'\"'\"'s $HOME `id`'" in printing


def test_steps_for_the_tool_alone_are_left_out(tmp_path: Path) -> None:
    spec = load_spec(write_spec(tmp_path), None, environment={})
    made = world(spec, {**FACTS, "ask": {"kind": "dr-restore"}})
    document = render(spec, made.compile())
    headings = [line for line in document.splitlines() if line.startswith("## ")]
    assert not any("what was staged" in line or "Put back" in line for line in headings)
    assert any("Put db in its place" in line for line in headings)
