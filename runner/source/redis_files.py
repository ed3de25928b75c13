"""A Redis server of this machine, restored by placing its file: stop, exchange by renames, start.

A server with `appendonly yes` reads its append-only file and nothing else, comes up empty without
one, and then overwrites the RDB. So the RDB is placed as the base of that file too.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runner import swap
from runner.durable import make_folder, write_bytes, write_chunks
from runner.errors import HoldfastError, StepFailed
from runner.process import SHELL, CommandFailed, Outcome, kill_group, started
from runner.source import redis_live
from runner.source.redis_connect import RawConnection, Rejected, connect
from runner.source.redis_file import chunks
from runner.source.redis_spot import Owned, Spot

COMMAND_SECONDS = 300.0
SILENT_SECONDS = 60.0  # from its start until a server answers, and from its stop until it is gone
PAUSE_SECONDS = 0.1
INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR")


@dataclass(frozen=True)
class Layout:
    """What the server calls its files."""

    dump: str = "dump.rdb"
    log_folder: str = "appendonlydir"
    log: str = "appendonly.aof"
    logs: bool | None = None  # whether it uses an append-only file; None: not known
    single: bool = False  # before 7.0 that is one file, which may begin as an RDB


def applies(spot: Spot) -> bool:
    """Whether a file is to be placed: the server is ours, and nothing that it holds is to stay."""
    place = spot.place
    if spot.owned is None or place.destination or place.include or place.running:
        return False
    if spot.noted().forms != ("rdb",):
        return False
    try:
        with connect(spot.address) as connection:
            if not _setting(connection, "dir"):
                return False  # nobody tells which files it reads
            return place.existing == "flush" or redis_live.is_empty(connection)
    except HoldfastError:
        return True


def exchange(spot: Spot, owned: Owned) -> list[str]:
    """Place the file, keeping what stood there; return the safety copies."""
    copies = _exchange(spot, owned, _layout(spot, owned))
    with connect(spot.address) as connection:
        layout = _asked(connection, owned)
    if layout is None or set(_places(owned, layout)) <= {one.live for one in moves(spot, owned)}:
        return copies
    # It could not be asked before, and reads files of other names than those that are usual.
    take_back(spot, owned, running=False)
    return _exchange(spot, owned, layout)


def _exchange(spot: Spot, owned: Owned, layout: Layout) -> list[str]:
    moves_record = _staging(spot, owned) / "moves.json"
    if swap.progress(moves_record) == "absent":
        pairs = _prepare(spot, owned, layout)
        _stop(spot, owned)
        moves = swap.plan_moves(pairs, spot.place.token)
    else:
        _stop(spot, owned)
        moves = []
    copies = swap.exchange(moves, moves_record)
    _start(spot, owned)
    return [str(one) for one in copies]


def moves(spot: Spot, owned: Owned) -> list[swap.Move]:
    """The moves of an exchange."""
    return swap.read_moves(_staging(spot, owned) / "moves.json")


def begun(spot: Spot, owned: Owned) -> bool:
    """Whether the moves of an exchange are written down."""
    return (_staging(spot, owned) / "moves.json").exists()


def put_back(spot: Spot, owned: Owned, back: Sequence[swap.Move]) -> list[str]:
    """Exchange the files by these moves, or by those that were begun; the server runs again."""
    make_folder(_staging(spot, owned))
    _stop(spot, owned)
    copies = swap.exchange(back, _staging(spot, owned) / "moves.json")
    _start(spot, owned)
    return [str(one) for one in copies]


def take_back(spot: Spot, owned: Owned, *, running: bool = True) -> None:
    """Put the old files back; the server runs again, if it is to."""
    staging = _staging(spot, owned)
    if not (staging / "moves.json").exists():
        return
    _stop(spot, owned)
    swap.undo(staging / "moves.json")
    if running:
        _start(spot, owned)


def discard(spot: Spot, owned: Owned) -> None:
    """Remove what was prepared beside the files."""
    staging = _staging(spot, owned)
    swap.forget(staging / "moves.json")
    swap.remove_tree(staging)


def _staging(spot: Spot, owned: Owned) -> Path:
    return swap.staging(owned.data / "dump.rdb", spot.place.token, spot.name)


def _layout(spot: Spot, owned: Owned) -> Layout:
    """What the server says; where it cannot be asked, what is usual."""
    try:
        with connect(spot.address) as connection:
            told = _asked(connection, owned)
    except HoldfastError as error:
        if isinstance(error, StepFailed) and "data_dir" in error.message:
            raise
        told = None
    if told is not None:
        return told
    single = (owned.data / "appendonly.aof").exists()
    return Layout(single=single and not (owned.data / "appendonlydir").exists())


def _asked(connection: RawConnection, owned: Owned) -> Layout | None:
    """What the server calls its files; None if it does not tell."""
    folder = _setting(connection, "dir")
    if not folder:
        return None
    if Path(folder).resolve() != owned.data.resolve():
        raise StepFailed(
            f"The server at {connection.where} has its data in {folder}, and not in the data_dir "
            f"{owned.data}.",
            remedy="Correct `data_dir` of the source.",
        )
    log_folder = _setting(connection, "appenddirname")
    return Layout(
        _setting(connection, "dbfilename") or Layout.dump,
        log_folder or Layout.log_folder,
        _setting(connection, "appendfilename") or Layout.log,
        {"yes": True, "no": False}.get(_setting(connection, "appendonly")),
        single=not log_folder,
    )


def _setting(connection: RawConnection, name: str) -> str:
    with contextlib.suppress(Rejected):
        if found := connection.call("CONFIG", "GET", name):
            return os.fsdecode(found[1])
    return ""


def _places(owned: Owned, layout: Layout) -> list[Path]:
    """Where the server looks for its content."""
    log = layout.log if layout.single else layout.log_folder
    return [owned.data / name for name in (layout.dump, *([] if layout.logs is False else [log]))]


def _manifest_name(name: str) -> str:
    """A file's name as the manifest of an append-only file has it: quoted if it must be."""
    if re.fullmatch(r"[\w.+-]+", name, re.ASCII):
        return name
    quoted = (chr(one) if 32 <= one < 127 and one not in b'"\\' else f"\\x{one:02x}"
              for one in os.fsencode(name))  # fmt: skip
    return f'"{"".join(quoted)}"'


def _prepare(spot: Spot, owned: Owned, layout: Layout) -> list[tuple[Path, Path]]:
    """Copy the file under each name that the server may read; return what goes where."""
    staging = _staging(spot, owned)
    swap.remove_tree(staging)
    make_folder(staging)
    staged = [staging / "dump", staging / "log"]
    places = _places(owned, layout)
    write_chunks(staged[0], chunks(spot.file(0)))
    if len(places) > 1:
        log = staged[1]
        if layout.single:
            write_chunks(log, chunks(spot.file(0)))
        else:
            base = f"{layout.log}.1.base.rdb"
            line = f"file {_manifest_name(base)} seq 1 type b\n"
            make_folder(log)
            write_chunks(log / base, chunks(spot.file(0)))
            write_bytes(log / f"{layout.log}.manifest", line.encode())
    for path in (staging, *staging.rglob("*")):
        with contextlib.suppress(PermissionError):  # only root may give a file away
            status = owned.data.stat()
            os.chown(path, status.st_uid, status.st_gid)
    return list(zip(staged, places, strict=False))


def _stop(spot: Spot, owned: Owned) -> None:
    """Stop the server, and wait until it is gone; it may be stopped already."""
    running = _answers(spot)
    try:
        _command(owned.stop, owned)
    except StepFailed:
        if running:
            raise
    deadline = time.monotonic() + SILENT_SECONDS
    while _answers(spot):
        if time.monotonic() > deadline:
            raise StepFailed(
                f"The Redis server at {spot.live.where} still answers after its stop command.",
                remedy="Does something start it again? Look at `stop` of the source.",
            )
        time.sleep(PAUSE_SECONDS)


def _start(spot: Spot, owned: Owned) -> None:
    """Start the server, and wait until it has loaded what it found."""
    _command(owned.start, owned)
    deadline = time.monotonic() + SILENT_SECONDS
    while True:
        with contextlib.suppress(HoldfastError), connect(spot.live) as connection:
            if b"\nloading:0" in connection.call("INFO", "persistence"):
                return
            deadline = time.monotonic() + SILENT_SECONDS
        if time.monotonic() > deadline:
            raise StepFailed(
                f"The Redis server at {spot.live.where} does not answer after its start command.",
                remedy="Look into its log.",
            )
        time.sleep(PAUSE_SECONDS)


def _answers(spot: Spot) -> bool:
    try:
        with connect(spot.live):
            return True
    except HoldfastError as error:
        return isinstance(error, Rejected)


def _command(text: str, owned: Owned) -> None:
    """Run a command of the spec as written. What it starts in the background goes on."""
    environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
    with (
        tempfile.TemporaryFile() as errors,
        started(
            [*SHELL, text], stderr=errors, environment=environment, folder=owned.folder
        ) as process,
    ):
        try:
            status = process.wait(COMMAND_SECONDS)
        except Exception:
            kill_group(process)
            raise
        errors.seek(0)
        said = errors.read()[-1000:].decode(errors="replace").strip()
    if status != 0:
        outcome = Outcome((text,), status, b"", said, 0.0)
        raise CommandFailed(f"`{text}` ended with status {status}: {said}", outcome)
