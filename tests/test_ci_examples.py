"""The CI files that the docs show: they parse, and their commands run and end as they say."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.store.seal import keygen
from tests.inside import Inside
from tests.service import SPEC, Service
from tests.tools import ROOT, run

PAGE = (ROOT / "docs/how-to/ci.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def yaml_with(key: str) -> Any:
    documents = [yaml.safe_load(text) for language, text in BLOCKS if language == "yaml"]
    return next(one for one in documents if key in one)


def lines(script: Any) -> Iterator[str]:
    for entry in script:
        text = entry if isinstance(entry, str) else entry.get("run", "")
        yield from (line.strip() for line in text.splitlines())


def scripts() -> dict[str, list[str]]:
    github, gitlab = yaml_with("jobs")["jobs"], yaml_with("drill")
    (cron,) = [text for language, text in BLOCKS if not language and "MAILTO" in text]
    jobs = [line.split(None, 5)[5] for line in cron.splitlines()[2:]]
    return {
        "github": [*lines(github["spec"]["steps"]), *lines(github["drill"]["steps"])],
        "gitlab": [*lines(gitlab["spec"]["script"]), *lines(gitlab["drill"]["script"])],
        "cron": [line.partition("&& ")[2].partition(" > ")[0] for line in jobs],
    }


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """A service as the pages' own: encrypted, two targets, every objective with a schedule."""
    folder = tmp_path_factory.mktemp("ci") / "service"
    service = Service(folder, SPEC).build()
    identity, public = keygen()
    (folder.parent / "quay.key").write_text(identity)
    (folder / "backup.yaml").write_text(f"{SPEC}encryption: {{recipients: [{public}]}}\n")
    Inside(folder)("backup", status=0)
    return service


@pytest.mark.parametrize("where", ["github", "gitlab", "cron"])
def test_the_commands_of_the_example_run(service: Service, where: str) -> None:
    key = str(service.folder.parent / "quay.key")
    ran = []
    for line in scripts()[where]:
        if not line.startswith("holdfast "):
            continue
        words = shlex.split(
            line.replace("$RUNNER_TEMP/quay.key", key).replace("$QUAY_IDENTITY", key)
        )
        words = [str(service.folder / "drills") if "/srv/" in one else one for one in words]
        strict = "--strict" in words
        # The small service has warnings; cron has no identity, and says so.
        status = 3 if strict else 0 if where != "cron" else None
        answer = Inside(service.folder)(*words[1:], status=status)
        assert answer.status in (0, 3, 5, 7), str(answer)
        ran.append(words[1])
    assert {"status", "drill"} <= set(ran)
    if where != "cron":
        assert {one.name for one in (service.folder / "junit").iterdir()} == {
            "ready.xml", "drill.xml"
        }  # fmt: skip


def test_the_crontab_is_one(tmp_path: Path) -> None:
    (text,) = [text for language, text in BLOCKS if not language and "MAILTO" in text]
    for line in text.splitlines()[2:]:
        fields = line.split(None, 5)
        assert len(fields) == 6
        run("bash", "-n", "-c", fields[5], folder=tmp_path)
