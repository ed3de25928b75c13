"""What a person types to capture, restore and place files with GNU tar alone."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from runner.source import Decode, Stored
from runner.source.files_capture import CREATE, Selection
from runner.source.files_roots import Root
from runner.source.files_stage import EXTRACT

KEPT = ".before-recovery"

_PLACE = (
    "place() {",
    f'  if [ -e "$2{KEPT}" ] || [ -L "$2{KEPT}" ]; then',
    f'    echo "$2{KEPT} is in the way: move it elsewhere first" >&2; exit 1',
    "  fi",
    '  if grep -qsF -- " $2/" /proc/self/mountinfo; then',
    '    echo "a disk is mounted in $2: move what is in $1 there by hand" >&2; exit 1',
    "  fi",
    f'  if [ -e "$2" ] || [ -L "$2" ]; then mv -T -- "$2" "$2{KEPT}"; fi',
    '  mkdir -p -- "${2%/*}"',
    '  mv -T -- "$1" "$2"',
    "}",
)
_MERGE = (
    "# Whether both are folders, and the second one holds what the first one does not.",
    "holds_more() {",
    '  if [ -L "$1" ] || [ -L "$2" ] || [ ! -d "$1" ] || [ ! -d "$2" ]; then return 1; fi',
    "  local name",
    "  while IFS= read -r -d '' name; do",
    '    if [ ! -e "$1/$name" ] && [ ! -L "$1/$name" ]; then return 0; fi',
    "  done < <(find \"$2\" -mindepth 1 -printf '%P\\0')",
    "  return 1",
    "}",
    "merge() {",
    "  local entry live",
    '  mkdir -p -- "$2"',
    '  for entry in "$1"/*; do',
    '    live="$2/${entry##*/}"',
    '    if holds_more "$entry" "$live"; then merge "$entry" "$live"',
    '    else place "$entry" "$live"; fi',
    "  done",
    '  chmod --reference="$1" -- "$2"',
    "}",
)


def capture_lines(name: str, selection: Selection) -> list[str]:
    """Lines that write `<name>.tar`."""
    arguments = [*CREATE, f"--file={name}.tar", *selection.arguments()]
    return [shlex.join(arguments)]


def restore_lines(stored: Sequence[Stored], decode: Decode, folder: str) -> list[str]:
    """Lines that unpack the main artifact into `folder`."""
    archive = next(one for one in stored if one.part == "")
    extract = shlex.join([*EXTRACT, f"--directory={folder}"])
    return [
        f"mkdir -p -- {shlex.quote(folder)}",
        f"{decode(archive)} | {extract}",
    ]


def place_lines(roots: Iterable[Root], folder: str) -> list[str]:
    """Lines that move the roots from `folder` to their places, keeping what is there.

    The spec's own folder stays in its place, and so does every folder in it that holds what the
    snapshot does not: state, a target, another source may lie there. Its entries are moved.
    """
    roots = list(roots)
    lines = [*_PLACE]
    if any(root.stored == "." for root in roots):
        lines += [*_MERGE]
    for root in roots:
        staged = shlex.quote(f"{folder}/{root.stored}")
        live = shlex.quote(str(root.live))
        if root.stored == ".":
            lines += ["shopt -s dotglob nullglob", f"merge {shlex.quote(folder)} {live}"]
        else:
            lines.append(f"if [ -e {staged} ] || [ -L {staged} ]; then place {staged} {live}; fi")
    return lines
