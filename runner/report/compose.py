"""The compose files of a folder: which services they start, of which images."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

NAMES = ("docker-compose.yml", "docker-compose.yaml", "compose.yml", "compose.yaml")
_ANY = re.compile(r"(docker-)?compose([.-][A-Za-z0-9_.-]+)?\.ya?ml")
_DEEPEST = 3
_SKIPPED = {"node_modules", "vendor", "venv", ".venv", ".git", ".holdfast", "backups"}


def services(file: Path) -> dict[str, str] | None:
    """The services of a compose file with their images; None where it says none."""
    import yaml

    try:
        document = yaml.safe_load(file.read_text())
        found = document["services"].items()
        return {str(one): str((it or {}).get("image", "")) for one, it in found}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        return None


def started_here(folder: Path) -> dict[str, str]:
    """The services that `docker compose` starts in this folder."""
    return next((it for name in NAMES if (it := services(folder / name)) is not None), {})


def everywhere(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """Every service below the folder: its file, relative to the folder, its name and its image."""
    for parent, folders, names in os.walk(folder):
        here = Path(parent)
        deep = len(here.relative_to(folder).parts) >= _DEEPEST
        folders[:] = [] if deep else sorted(set(folders) - _SKIPPED)
        told: set[str] = set()  # a second file of a folder changes services of the first
        for name in sorted(filter(_ANY.fullmatch, names)):
            for service, image in (services(here / name) or {}).items():
                if image and service not in told:
                    told.add(service)
                    yield (here / name).relative_to(folder), service, image
