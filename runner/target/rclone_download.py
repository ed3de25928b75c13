"""The lines that a person types to fetch from a remote of rclone without Holdfast."""

from __future__ import annotations

import shlex

from runner.target.rclone_place import Place
from runner.target.shell import secret_words


def download_commands(place: Place, prefix: str, folder: str) -> list[str]:
    """Copy the folder `prefix` to the local `folder`, which is quoted already."""
    source = shlex.quote(place.path(prefix))
    if place.config is None:
        return [f"rclone copy {source} {folder}"]
    if place.config.file is not None:
        config = shlex.quote(str(place.config.file))
        return [f"rclone copy --config {config} {source} {folder}"]
    return [
        'rclone_config="$(mktemp)"',
        f"printf '%s\\n' {secret_words(place.config)} >\"$rclone_config\"",
        f'rclone copy --config "$rclone_config" {source} {folder}',
        'rm -- "$rclone_config"',
    ]
