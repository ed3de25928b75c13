"""What a person types to capture, restore and place files with GNU tar alone."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from runner.source import Decode, Stored
from runner.source.files_capture import CREATE, Selection
from runner.source.files_roots import Root
from runner.source.files_stage import EXTRACT

KEPT = ".before-recovery"


def capture_lines(name: str, selection: Selection) -> list[str]:
    """Lines that write `<name>.tar`."""
    arguments = [*CREATE, f"--file={name}.tar", *selection.arguments()]
    return [shlex.join(arguments)]


def restore_lines(stored: Sequence[Stored], decode: Decode, folder: str) -> list[str]:
    """Lines that unpack the main artifact into `folder`."""
    archive = next(one for one in stored if one.part == "")
    extract = shlex.join([*EXTRACT, f"--directory={folder}"])
    return [
        "set -o pipefail",
        f"mkdir -p -- {shlex.quote(folder)}",
        f"{decode(archive)} | {extract}",
    ]


def place_lines(roots: Iterable[Root], folder: str) -> list[str]:
    """Lines that move the roots from `folder` to their places, keeping what is there."""
    lines = [
        "place() {",
        f'  if [ -e "$2{KEPT}" ] || [ -L "$2{KEPT}" ]; then',
        f'    echo "$2{KEPT} is in the way: move it elsewhere first" >&2; exit 1',
        "  fi",
        f'  if [ -e "$2" ] || [ -L "$2" ]; then mv -T -- "$2" "$2{KEPT}"; fi',
        '  mkdir -p -- "${2%/*}"',
        '  mv -T -- "$1" "$2"',
        "}",
    ]
    for root in roots:
        staged = shlex.quote(f"{folder}/{root.stored}")
        live = shlex.quote(str(root.live))
        if root.stored != ".":
            lines.append(f"if [ -e {staged} ] || [ -L {staged} ]; then place {staged} {live}; fi")
            continue
        whole = shlex.quote(folder)
        lines += [
            f"mkdir -p -- {live}",
            "shopt -s dotglob nullglob",
            f'for entry in {whole}/*; do place "$entry" {live}/"${{entry##*/}}"; done',
            f"chmod --reference={whole} -- {live}",
        ]
    return lines
