"""What the tests of bad days share: commands that never end in a traceback, stacks, forgeries."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyrage

from runner.store.snapshot import Manifest, sums
from tests.inside import Inside
from tests.service import SPEC, Service
from tests.tools import Answer

IDENTITY = "keys/quay.key"
TARGETS = ("backups", "elsewhere")
ONE_TARGET = SPEC.replace("  offsite: {type: local, path: elsewhere}\n", "")


class Steady(Inside):
    """The program inside this process; whatever it is given, it ends in words."""

    def __call__(self, *arguments: str | Path, status: int | None = None) -> Answer:
        """Run a command; see Inside."""
        return steady(super().__call__(*arguments, status=status))


def steady(answer: Answer) -> Answer:
    """The same answer, which must be neither a traceback nor an error that nobody foresaw."""
    said = answer.stdout + answer.stderr
    for word in ("Traceback", '"bug"', "This is a bug"):
        assert word not in said, str(answer)
    return answer


def encrypted_spec(folder: Path, spec: str = SPEC) -> str:
    """The spec with encryption, and its identity made in the folder."""
    identity = pyrage.x25519.Identity.generate()
    (folder / IDENTITY).parent.mkdir(parents=True)
    (folder / IDENTITY).write_text(f"{identity}\n")
    secret = f'{{secret: "file:{IDENTITY}"}}'
    return spec + f"encryption: {{recipients: [{identity.to_public()}], identity: {secret}}}\n"


def copied(service: Service, folder: Path) -> tuple[Service, Steady]:
    """A copy of a service in another folder, and the program there."""
    shutil.copytree(service.folder, folder, symlinks=True)
    spec = (folder / "backup.yaml").read_text()
    return Service(folder, spec), Steady(folder)


def snapshots(service: Service, target: str = "backups") -> list[Path]:
    """The folders of the snapshots at a target, oldest first."""
    return sorted((service.folder / target / "quaybot" / "default").glob("2*"))


def safety_copies(service: Service) -> list[str]:
    """What a restore kept of what it replaced."""
    return [one.name for one in service.folder.rglob("*.before-*")]


def unpacked(stored: Path) -> bytes:
    """The content of a plain artifact."""
    program = ["zstd", "-dcq", "--", str(stored)]
    return subprocess.run(program, capture_output=True, check=True).stdout


def replace_content(
    folder: Path,
    contents: Mapping[str, bytes],
    change: Callable[[dict[str, Any]], None] = lambda _document: None,
) -> None:
    """Exchange artifacts of one source by key, and make every hash agree again: in the sealed
    fingerprint's document, which `change` may alter too, in the manifest and in SHA256SUMS.
    """
    manifest = json.loads((folder / "manifest.json").read_text())
    source = next(iter(contents)).partition(".")[0]
    key = f"{source}.fingerprint.json.zst"
    document = json.loads(unpacked(folder / key))
    for name, content in contents.items():
        if name != key:
            digest = hashlib.sha256(content).hexdigest()
            document["artifacts"][name] = {"bytes": len(content), "sha256": digest}
            _store(folder / name, content, manifest)
    change(document)
    _store(folder / key, contents.get(key, json.dumps(document).encode()), manifest)
    reseal(folder, manifest)


def reseal(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write a manifest, and the sums that agree with it."""
    whole = Manifest.from_bytes(json.dumps(manifest).encode())
    (folder / "manifest.json").write_bytes(whole.to_bytes())
    (folder / "SHA256SUMS").write_bytes(sums(whole, whole.to_bytes()))


def _store(path: Path, content: bytes, manifest: dict[str, Any]) -> None:
    data = subprocess.run(["zstd", "-cq"], input=content, capture_output=True, check=True).stdout
    path.write_bytes(data)
    (entry,) = (one for one in manifest["artifacts"] if one["key"] == path.name)
    entry["bytes"], entry["sha256"] = len(data), hashlib.sha256(data).hexdigest()
    entry["content_bytes"] = len(content)
    entry["content_sha256"] = hashlib.sha256(content).hexdigest()
