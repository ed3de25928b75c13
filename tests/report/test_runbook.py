"""The runbook: nothing that a spec says leaves the line or the fence where it belongs."""

from __future__ import annotations

import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

from runner.report.page import page
from runner.report.runbook import measured, render
from runner.spec.load import load_spec
from runner.store.records import DrillResult
from tests.inside import Inside
from tests.plan.world import world
from tests.report.test_measure import FACTS
from tests.service import Service
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


def test_what_a_person_puts_into_variables_is_told_before_the_first_step(tmp_path: Path) -> None:
    spec = load_spec(
        write_spec(
            tmp_path,
            """\
version: 1
project: quaybot
sources:
  main: {type: postgres, host: db, dbname: quay, password: {secret: "env:QUAY_PASSWORD"}}
  cache: {type: redis, url: "redis://cache", password: {secret: "env:CACHE_PASSWORD"}}
targets:
  disk: {type: local, path: backups}
""",
        ),
        None,
        environment={},
    )
    held = [{**FACTS["snapshots"][0], "sources": ["main", "cache"]}]
    facts = {**FACTS, "snapshots": held, "ask": {"kind": "dr-restore"}}
    before = render(spec, world(spec, facts).compile()).partition("## 1. ")[0]
    assert "\n- For main: PGPASSWORD or ~/.pgpass: the password in env:QUAY\\_PASSWORD\n" in before
    assert "REDISCLI\\_AUTH=… (the password in env:CACHE\\_PASSWORD)\n" in before
    assert before.count("psql") == 1


def test_whom_to_call_what_to_decide_and_how_long_it_takes(tmp_path: Path) -> None:
    text = SMALL + 'contacts: ["Mara <mara@quay.example>, lead", "Ole, +49 40 1234"]\n'
    spec = load_spec(write_spec(tmp_path, text), None, environment={})
    plan = world(spec, {**FACTS, "ask": {"kind": "dr-restore"}}).compile()
    details = {"sources": {"db": {"fetch": 10.0, "restore": 80.0, "verify": 5.0}}}
    seconds = measured(plan, [DrillResult("drill", datetime.now(UTC), ok=True, details=details)])
    document = render(spec, plan, seconds)
    assert "## Whom to call\n\n- Mara \\<mara@quay.example\\>, lead\n- Ole, +49 40 1234" in document
    assert "the last drill took 1m35s" in document
    assert "- To undo it: move what is named" in document
    assert document.index("## Decide first") < document.index("## 1. ")


def test_the_page_shows_the_document_and_makes_no_markup_of_it(tmp_path: Path) -> None:
    text = SMALL + HOSTILE + 'contacts: ["<b>Mara</b> `x` | y"]\n'
    spec = load_spec(write_spec(tmp_path, text), None, environment={})
    document = render(spec, world(spec, {**FACTS, "ask": {"kind": "dr-restore"}}).compile())
    shown = page(document)
    tree = ET.fromstring(shown.partition("\n")[2].replace('<meta charset="utf-8">', ""))
    assert "<b>Mara</b> `x` | y" in ["".join(one.itertext()) for one in tree.iter("li")]
    blocks = ["".join(one.itertext()) for one in tree.iter("pre")]
    assert blocks == [block.rstrip("\n") for _, block in BLOCK.findall(document)]
    boxes = [one for one in tree.iter("li") if one.get("class") == "box"]
    assert len(boxes) == document.count("- [ ] ")
    assert len(list(tree.iter("h2"))) == len(re.findall("(?m)^## ", BLOCK.sub("", document)))


def test_it_is_written_as_a_page(tmp_path: Path) -> None:
    service = Service(tmp_path / "service").build()
    holdfast = Inside(service.folder)
    holdfast("backup", status=0)
    holdfast("runbook", "--out", "book.html", status=0)
    assert (service.folder / "book.html").read_text().startswith("<!doctype html>")


def test_steps_for_the_tool_alone_are_left_out(tmp_path: Path) -> None:
    spec = load_spec(write_spec(tmp_path), None, environment={})
    made = world(spec, {**FACTS, "ask": {"kind": "dr-restore"}})
    document = render(spec, made.compile())
    headings = [line for line in document.splitlines() if line.startswith("## ")]
    assert not any("what was staged" in line or "Put back" in line for line in headings)
    assert any("Put db in its place" in line for line in headings)
