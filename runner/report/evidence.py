"""The evidence that drills leave: reports whose hashes stand in the records, each naming the one
before it, with the hash of its run's journal, signed where a key is declared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.durable import write_bytes
from runner.errors import HoldfastError
from runner.execute import journal
from runner.report.drill_document import drill_markdown
from runner.report.drill_page import drill_page
from runner.spec.model import Spec
from runner.store.records import COULD_NOT_VERIFY, FAIL, ODD, PASS, DrillResult
from runner.store.signature import Signers, sign


@dataclass(frozen=True)
class Written:
    """What lies in the folder of reports of one drill."""

    hashes: Mapping[str, str]  # sha256 by file name
    trouble: str = ""  # why it is not signed though it should be


def write_reports(spec: Spec, folder: Path, run: str, facts: Mapping[str, Any]) -> Written:
    """Write the report three times: for machines, as Markdown, as a page; and its signature."""
    document = json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    files = {
        f"{run}.json": document.encode("utf-8", "backslashreplace"),
        f"{run}.md": drill_markdown(facts).encode("utf-8", "backslashreplace"),
        f"{run}.html": drill_page(facts).encode("utf-8", "backslashreplace"),
    }
    trouble = ""
    if spec.signing is not None and spec.signing.key is not None:
        try:
            files[f"{run}.json.sig"] = sign(files[f"{run}.json"], spec.signing.key)
        except HoldfastError as error:
            trouble = f"The report is not signed. {error.message}"
    for name, data in files.items():
        write_bytes(folder / name, data)
    return Written({name: _sha256(data) for name, data in files.items()}, trouble)


def previous_report(drills: Sequence[DrillResult]) -> dict[str, str] | None:
    """The report that the next one follows: the newest drill's, by the records."""
    for one in drills:
        if "report_sha256" in one.details:
            return {"run": one.run, "sha256": str(one.details["report_sha256"])}
    return None


def journal_hash(state: Path, run: str) -> str:
    """The hash of an ended run's journal."""
    return _sha256((journal.run_folder(state, run) / journal.JOURNAL).read_bytes())


def examine_chain(
    spec: Spec, drills: Sequence[DrillResult], folder: Path, signers: Signers | None
) -> list[dict[str, str]]:
    """A verdict on each drill's evidence, newest first, and on reports without a record."""
    records = {one.run: one for one in drills}
    rows = []
    for one in drills:
        try:
            found = _examined(spec, one, records, folder, signers)
        except ODD:
            found = _told(FAIL, "its record or its report is not as they are written")
        rows.append({"run": one.run, **found})
    return rows + [
        {"run": run, "verdict": FAIL, "reason": "its record is gone from the targets"}
        for run in _reported(spec, folder)
        if run not in records
    ]


def _examined(
    spec: Spec,
    drill: DrillResult,
    records: Mapping[str, DrillResult],
    folder: Path,
    signers: Signers | None,
) -> dict[str, str]:
    path = folder / f"{drill.run}.json"
    if "reports" not in drill.details:
        return _told(COULD_NOT_VERIFY, "it was recorded before reports were chained")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return _told(COULD_NOT_VERIFY, f"its report is not in {folder}")
    if _sha256(data) != drill.details["report_sha256"]:
        return _told(FAIL, f"{path.name} was changed")
    facts = json.loads(data)
    faults = [
        *_changed(drill, folder),
        *_broken(facts, records),
        *_rewritten(spec, facts, drill.run),
    ]
    if faults:
        return _told(FAIL, "; ".join(faults))
    return _signed(data, path, signers)


def _changed(drill: DrillResult, folder: Path) -> Iterator[str]:
    for name, sha256 in drill.details["reports"].items():
        try:
            found = _sha256((folder / Path(name).name).read_bytes())
        except FileNotFoundError:
            yield f"{name} is gone"
            continue
        if found != sha256:
            yield f"{name} was changed"


def _broken(facts: Mapping[str, Any], records: Mapping[str, DrillResult]) -> Iterator[str]:
    before = facts["evidence"]["previous"]
    if before is None:
        return
    known = records.get(before["run"])
    if known is None:
        yield f"the record of {before['run']}, which it follows, is gone"
    elif known.details.get("report_sha256") != before["sha256"]:
        yield f"it follows another report of {before['run']} than the records name"


def _rewritten(spec: Spec, facts: Mapping[str, Any], run: str) -> Iterator[str]:
    try:
        found = journal_hash(spec.state, run)
    except OSError:
        return  # old journals go, and another host has none
    if found != facts["evidence"]["journal_sha256"]:
        yield "the journal of its run was changed"


def _signed(data: bytes, path: Path, signers: Signers | None) -> dict[str, str]:
    signature = path.with_name(f"{path.name}.sig")
    if signers is None:
        words = "signed, by whom nobody asked" if signature.exists() else "not signed"
        return _told(PASS, words)
    if not signature.exists():
        return _told(COULD_NOT_VERIFY, "it is not signed")
    try:
        problem = signers.problem(data, signature.read_bytes())
    except HoldfastError as error:
        return _told(COULD_NOT_VERIFY, error.message)
    return _told(FAIL, problem) if problem else _told(PASS, "signed")


def _reported(spec: Spec, folder: Path) -> Iterator[str]:
    """The drills of this profile whose reports lie in the folder."""
    for path in sorted(folder.glob("*-drill-*.json")) if folder.is_dir() else []:
        try:
            facts = json.loads(path.read_bytes())
            own = (facts["project"], facts["profile"]) == (spec.project, spec.profile)
        except (ValueError, KeyError, TypeError):
            continue  # its record, if there is one, says that it was changed
        if own:
            yield path.stem


def _told(verdict: str, reason: str) -> dict[str, str]:
    return {"verdict": verdict, "reason": reason}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
