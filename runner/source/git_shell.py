"""The shell lines that bring a repository back with git, tar and bash alone."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from runner.source import Decode, Stored
from runner.source.git_extras import SAFE_KEYS, UNSAFE_VALUE
from runner.source.git_refs import STASH_LOG, STASHES

_SAFETY = ".before-recovery"


def restore_lines(stored: Sequence[Stored], decode: Decode, folder: str) -> list[str]:
    """Lines that make `folder` a repository with every ref, HEAD and settings that are data."""
    parts = {one.part: decode(one) for one in stored}
    to = shlex.quote(folder)
    lines = [
        'parts="$(mktemp -d)"',
        f'{parts["config"]} | tar -x -f - -C "$parts"',
        f'{parts[""]} > "$parts/bundle"',
        'bare=""; if [ "$(cat "$parts/bare")" = true ]; then bare=--bare; fi',
        f'git init -q $bare --template= --object-format="$(cat "$parts/object-format")" -- {to}',
        f'git_dir="$(git -C {to} rev-parse --absolute-git-dir)"',
        'if [ -s "$parts/shallow" ]; then cp "$parts/shallow" "$git_dir/shallow"; fi',
        f'git -C {to} fetch -q --no-tags --update-head-ok "$parts/bundle" "+refs/*:refs/*"',
        *_settings(to),
        *_refs(to),
        'mkdir -p "$git_dir/info"',
        (
            "for name in exclude attributes; do "
            'if [ -s "$parts/$name" ]; then cp "$parts/$name" "$git_dir/info/"; fi; done'
        ),
        (
            f'if [ -z "$bare" ] && git -C {to} rev-parse -q --verify HEAD > /dev/null; then '
            f"git -C {to} reset -q --hard; fi"
        ),
    ]
    if "uncommitted" in parts:
        lines += [
            (
                f'if [ -s "$parts/deleted" ]; then git -C {to} --literal-pathspecs rm -r -q -f '
                '--ignore-unmatch --pathspec-from-file="$parts/deleted" --pathspec-file-nul; '
                f"git -C {to} reset -q; fi"
            ),
            f"{parts['uncommitted']} | tar -x -p -f - -C {to}",
        ]
    return [*lines, 'rm -rf "$parts"']


def place_lines(folder: str, root: Path) -> list[str]:
    """Lines that move `folder` to `root`. What a working copy at `root` holds beside `.git` and
    tracked files stays; those go to `.git.before-recovery`.
    """
    made, live = shlex.quote(folder), shlex.quote(str(root))
    kept = shlex.quote(str(root / f".git{_SAFETY}"))
    aside = shlex.quote(str(root) + _SAFETY)
    above = shlex.quote(str(root.parent))
    # Before anything is moved: an earlier recovery's safety copy is not to be written over.
    return [
        (
            f'for kept in {kept} {aside}; do if [ -e "$kept" ]; then '
            f'echo "$kept is there already: move it away" >&2; exit 1; fi; done'
        ),
        f"mkdir -p {above}",
        (
            f"if [ ! -e {made}/.git ]; then if [ -e {live} ]; then mv {live} {aside}; fi; "
            f"cp -a {made} {live}; else"
        ),
        f"  mkdir -p {live}",
        _aside(made, live, kept),
        f"  cp -a {made}/. {live}/",
        "fi",
    ]


def _aside(made: str, live: str, kept: str) -> str:
    """Move `.git` and all tracked files of `live`, old and new ones, to the folder `kept`."""
    listing = (
        f"{{ git -C {live} -c core.fsmonitor=false ls-files -z 2> /dev/null || true; "
        f"git -C {made} ls-files -z --cached --others --exclude-standard; printf '.git\\0'; }}"
    )
    exists = f'[ -L {live}/"$path" ] || {{ [ -e {live}/"$path" ] && [ ! -d {live}/"$path" ]; }}'
    is_git = '[ "$path" = .git ]'
    return (
        f"  {listing} | while IFS= read -r -d '' path; do "
        f"if {exists} || {{ {is_git} && [ -e {live}/.git ]; }}; then "
        f'case "$path" in */*) mkdir -p {kept}/"${{path%/*}}";; *) mkdir -p {kept};; esac; '
        f'mv -- {live}/"$path" {kept}/"$path"; fi; done'
    )


def _settings(to: str) -> list[str]:
    keys, unsafe = shlex.quote(SAFE_KEYS), shlex.quote(UNSAFE_VALUE)
    return [
        f"unsafe={unsafe}",
        (
            'if [ -s "$parts/config" ]; then { git config -z --file "$parts/config" '
            f"--get-regexp {keys} || [ $? -eq 1 ]; }} | while IFS= read -r -d '' one; do "
            "key=\"${one%%$'\\n'*}\"; value=\"${one#*$'\\n'}\"; "
            '[[ "$key" == *url && "$value" =~ $unsafe ]] || '
            f'git -C {to} config --add "$key" "$value"; done; fi'
        ),
    ]


def _refs(to: str) -> list[str]:
    log = shlex.quote(STASH_LOG)
    return [
        (
            f'if [ -s "$parts/stash" ]; then mkdir -p "$git_dir/logs/refs"; '
            f'cp "$parts/stash" "$git_dir"/{log}; fi'
        ),
        (
            f"git -C {to} for-each-ref --format='delete %(refname)' {STASHES.decode()} "
            f"| git -C {to} update-ref --stdin"
        ),
        (
            f'if [ -s "$parts/symrefs" ]; then while read -r name target; do '
            f'git -C {to} symbolic-ref "$name" "$target"; done < "$parts/symrefs"; fi'
        ),
        'head="$(cat "$parts/HEAD")"',
        (
            f'case "$head" in "ref: "*) git -C {to} symbolic-ref HEAD "${{head#ref: }}";; '
            f'*) git -C {to} bundle unbundle "$parts/bundle" > /dev/null; '
            f'git -C {to} update-ref --no-deref HEAD "$head";; esac'
        ),
    ]
