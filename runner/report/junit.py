"""An outcome as JUnit XML, so that a CI server shows a failed drill as a failed test."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from runner.durable import make_folder, write_bytes
from runner.report.outcome import Outcome
from runner.secret import SCRUBBER
from runner.store.records import COULD_NOT_VERIFY, FAIL, PASS, SKIP

# What XML 1.0 cannot hold, escaped or not.
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_STATUS = {"done": PASS, "skipped": SKIP, "failed": FAIL, "interrupted": COULD_NOT_VERIFY}
_MET = {True: PASS, False: FAIL, None: COULD_NOT_VERIFY}


@dataclass(frozen=True)
class Case:
    """One test case."""

    group: str
    name: str
    verdict: str
    words: str = ""
    seconds: float = 0.0


def write_junit(outcome: Outcome, command: str, file: Path) -> None:
    """Write the outcome of `command` to `file`. Raises OSError where that cannot be done."""
    make_folder(file.parent)
    write_bytes(file, SCRUBBER.clean(junit(outcome, command)).encode())


def junit(outcome: Outcome, command: str) -> str:
    """The XML: FAIL is a failure, COULD-NOT-VERIFY an error, SKIP is skipped.

    What ended with another exit code than 0 has a failing case, whatever went wrong.
    """
    cases = list(_CASES.get(outcome.command, _none)(outcome.data))
    bad = [one for one in cases if one.verdict in (FAIL, COULD_NOT_VERIFY)]
    if outcome.exit_code and not bad:
        words = str((outcome.error or {}).get("message", f"exit code {outcome.exit_code}"))
        cases.append(Case(command, "outcome", FAIL, words))
    if not cases:
        cases.append(Case(command, "outcome", PASS))
    counts = {
        "tests": len(cases),
        "failures": sum(one.verdict == FAIL for one in cases),
        "errors": sum(one.verdict == COULD_NOT_VERIFY for one in cases),
        "skipped": sum(one.verdict == SKIP for one in cases),
    }
    numbers = " ".join(f'{name}="{count}"' for name, count in counts.items())
    took = f'time="{float(outcome.data.get("seconds") or 0.0):.3f}"'
    head = f'<testsuite name="holdfast {command}" {numbers} {took}>'
    body = "\n".join(_element(one) for one in cases)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<testsuites {numbers} {took}>\n{head}\n{body}\n</testsuite>\n</testsuites>\n"
    )


def _element(case: Case) -> str:
    words = _legal(case.words)
    first = quoteattr(words.partition("\n")[0][:300] or case.verdict)
    inner = {
        PASS: "",
        SKIP: f"<skipped message={first}/>",
        FAIL: f"<failure message={first}>{escape(words)}</failure>",
        COULD_NOT_VERIFY: f"<error message={first}>{escape(words)}</error>",
    }[case.verdict]
    return (
        f"<testcase classname={quoteattr(_legal(case.group))} name={quoteattr(_legal(case.name))} "
        f'time="{case.seconds:.3f}">{inner}</testcase>'
    )


def _legal(text: str) -> str:
    return _NO_XML.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _drill(data: Mapping[str, Any]) -> Iterator[Case]:
    for one in data["steps"]:
        yield Case("step", one["id"], _STATUS[one["status"]], one["status"], one["seconds"])
    for one in data["proof"]:
        yield Case("proof", one["source"], _MET[one["equal"]], "\n".join(one["differences"]))
    for one in data["checks"]:
        words = f"expected {one['expected']}, found {one['actual']}"
        group = f"check of {one['source']}" if one["source"] else "check"
        yield Case(group, one["name"], one["verdict"], words)
    for kind in ("rto", "rpo"):
        for name, one in data[kind].items():
            if one["objective"] is not None:
                words = f"measured {one['measured']} s, promised {one['objective']} s"
                yield Case(kind.upper(), name, _MET[one["met"]], words)


def _verify(data: Mapping[str, Any]) -> Iterator[Case]:
    for one in data["results"]:
        name = f"{one['source'] or 'snapshot'} at {one['target']}, {one['level']}"
        yield Case(one["snapshot"], name, one["verdict"], one["reason"])


def _ready(data: Mapping[str, Any]) -> Iterator[Case]:
    for one in data["points"]:
        yield Case("ready", one["what"], one["verdict"], one["found"])


def _none(_data: Mapping[str, Any]) -> Iterator[Case]:
    yield from ()


_CASES: Mapping[str, Callable[[Mapping[str, Any]], Iterator[Case]]] = {
    "drill": _drill,
    "verify": _verify,
    "ready": _ready,
}
