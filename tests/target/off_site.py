"""What a person needs of a target that is elsewhere: that it alone brings everything back."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.inside import Inside
from tests.service import SPEC, Service
from tests.tools import clean_environment

BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SECOND = "offsite: {type: local, path: elsewhere}"


def brings_everything_back(folder: Path, target: str, path: str = "/usr/bin:/bin") -> None:
    """Back up to a target that the spec declares as `target`, lose everything else, and recover
    from it: by the program, and by the commands of the runbook.
    """
    service = Service(folder / "service", SPEC.replace(SECOND, f"offsite: {target}")).build()
    holdfast = Inside(service.folder)
    assert "leave this machine unencrypted" in holdfast("validate", status=0).stdout
    assert "one disk" not in holdfast("validate", status=0).stdout
    before = service.observe()
    (snapshot,) = holdfast.json("backup")["snapshots"]
    assert snapshot["targets"] == ["disk", "offsite"]
    results = holdfast.json("verify", "--target", "offsite", "--level", "readable")["results"]
    assert {one["verdict"] for one in results} == {"PASS"}
    examined = holdfast.json("doctor")["examined"]
    assert [one["verdict"] for one in examined if one["what"] == "target offsite"] == ["ok"]

    lose_all(service)
    document = holdfast.json("dr-restore", "--from", "offsite", "--confirm", "quaybot")
    assert {one["equal"] for one in document["proof"]} == {True}
    assert service.observe() == before

    runbook = holdfast.json("runbook")["document"]
    lose_all(service)
    (folder / "workshop").mkdir()
    done = subprocess.run(
        ["bash", "-e"],
        input="\n".join(BLOCK.findall(runbook)),
        cwd=folder / "workshop",
        env=clean_environment(folder) | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{runbook}\n{done.stdout}\n{done.stderr}"
    assert service.observe() == before


def lose_all(service: Service) -> None:
    """Lose everything but the spec and what is elsewhere."""
    service.destroy()
    for name in ("backups", ".holdfast"):
        shutil.rmtree(service.folder / name, ignore_errors=True)
