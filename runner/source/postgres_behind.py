"""pg_restore behind a prefix command: the files that it needs are brought by its standard input.

What is unpacked there is removed there: by the shell that waits for pg_restore, whose input ends
whatever becomes of this process, or before pg_restore begins.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, cast

from runner import process
from runner.source.postgres_programs import Programs, client, explained, feeding_client
from runner.source.postgres_server import Server

BLOCK = 1024 * 1024
LIST = "list"  # what is to be restored, among the files of a dump in several

# The dump follows the list on the same input, so that nothing may be read ahead.
WITH_LIST = (
    'list=$(mktemp) && dd bs=1 count="$1" of="$list" 2>/dev/null && exec 3<"$list" '
    '&& rm -f "$list" && shift && exec "$@" --use-list=/dev/fd/3'
)
_WITH_FOLDER = (
    'folder=$(mktemp -d) || exit; trap \'rm -rf "$folder"\' EXIT; trap "exit 1" HUP INT TERM; '
    f'tar -xf - -C "$folder" && {{ [ ! -f "$folder/{LIST}" ] '
    f'|| set -- "$@" --use-list="$folder/{LIST}"; }} && "$@" "$folder"'
)


def contents(server: Server, programs: Programs, folder: Path, arguments: Sequence[str]) -> bytes:
    """What pg_restore says of the table of contents of a dump in several files."""
    packed = io.BytesIO()
    _pack(packed, [folder / "toc.dat"])
    with (
        client(
            server,
            programs,
            "pg_restore",
            *arguments,
            connect=False,
            through=_shell(_WITH_FOLDER),
        ) as one,
        explained(server, "pg_restore"),
    ):
        return process.run(
            one.arguments, stdin=packed.getvalue(), environment=one.environment, folder=one.folder
        ).stdout


def restore(
    server: Server, programs: Programs, dump: Path, listed: Path | None, arguments: Sequence[str]
) -> None:
    """Restore a dump, or those of its entries that a file lists."""
    if dump.is_dir():
        through = _shell(_WITH_FOLDER)
    else:
        through = _shell(WITH_LIST, str(listed.stat().st_size)) if listed else ()
    with feeding_client(server, programs, "pg_restore", *arguments, through=through) as feed:
        if dump.is_dir():
            _pack(feed, [*([listed] if listed else []), *sorted(dump.iterdir())])
            return
        for path in filter(None, (listed, dump)):
            with path.open("rb") as file:
                while block := file.read(BLOCK):
                    feed.write(block)


def _shell(script: str, *arguments: str) -> tuple[str, ...]:
    return ("sh", "-c", script, "sh", *arguments)


def _pack(into: IO[bytes], paths: Sequence[Path]) -> None:
    with tarfile.open(mode="w|", fileobj=cast("Any", into), bufsize=BLOCK) as tar:
        for path in paths:
            tar.add(path, path.name, recursive=False)
