"""A Redis server of this machine, restored by placing its file: stop, exchange by renames, start.

A server with `appendonly yes` reads its append-only file and nothing else, comes up empty without
one, and then overwrites the RDB. So the RDB is placed as the base of that file too.
"""

from __future__ import annotations

import contextlib
import os
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
            return place.existing == "flush" or redis_live.is_empty(connection)
    except HoldfastError:
        return True


def exchange(spot: Spot, owned: Owned) -> list[str]:
    """Place the file, keeping what stood there; return the safety copies."""
    layout = _layout(spot, owned)
    staging = _staging(spot, owned)
    moves_record = staging / "moves.json"
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


def take_back(spot: Spot, owned: Owned) -> None:
    """Put the old files back; the server runs again."""
    staging = _staging(spot, owned)
    if not (staging / "moves.json").exists():
        return
    _stop(spot, owned)
    swap.undo(staging / "moves.json")
    _start(spot, owned)


def discard(spot: Spot, owned: Owned) -> None:
    """Remove what was prepared beside the files."""
    staging = _staging(spot, owned)
    swap.forget(staging / "moves.json")
    swap.remove_tree(staging)


def _staging(spot: Spot, owned: Owned) -> Path:
    return swap.staging(owned.data / "dump.rdb", spot.place.token, spot.name)


def _layout(spot: Spot, owned: Owned) -> Layout:
    try:
        with connect(spot.address) as connection:
            return _asked(connection, owned)
    except HoldfastError as error:
        if isinstance(error, StepFailed) and "data_dir" in error.message:
            raise
        single = (owned.data / "appendonly.aof").exists()
        return Layout(single=single and not (owned.data / "appendonlydir").exists())


def _asked(connection: RawConnection, owned: Owned) -> Layout:
    def setting(name: str, default: str) -> str:
        with contextlib.suppress(Rejected):
            if found := connection.call("CONFIG", "GET", name):
                return os.fsdecode(found[1])
        return default

    folder = setting("dir", "")
    if folder and Path(folder).resolve() != owned.data.resolve():
        raise StepFailed(
            f"The server at {connection.where} has its data in {folder}, and not in the data_dir "
            f"{owned.data}.",
            remedy="Correct `data_dir` of the source.",
        )
    logs = setting("appendonly", "")
    return Layout(
        setting("dbfilename", Layout.dump),
        setting("appenddirname", Layout.log_folder),
        setting("appendfilename", Layout.log),
        {"yes": True, "no": False}.get(logs),
        single=not setting("appenddirname", ""),
    )


def _prepare(spot: Spot, owned: Owned, layout: Layout) -> list[tuple[Path, Path]]:
    """Copy the file under each name that the server may read; return what goes where."""
    staging = _staging(spot, owned)
    swap.remove_tree(staging)
    make_folder(staging)
    pairs = [(staging / "dump", owned.data / layout.dump)]
    write_chunks(staging / "dump", chunks(spot.file(0)))
    if layout.logs is not False:
        log = staging / "log"
        if layout.single:
            write_chunks(log, chunks(spot.file(0)))
            pairs.append((log, owned.data / layout.log))
        else:
            base = f"{layout.log}.1.base.rdb"
            make_folder(log)
            write_chunks(log / base, chunks(spot.file(0)))
            write_bytes(log / f"{layout.log}.manifest", f"file {base} seq 1 type b\n".encode())
            pairs.append((log, owned.data / layout.log_folder))
    for path in (staging, *staging.rglob("*")):
        with contextlib.suppress(PermissionError):  # only root may give a file away
            status = owned.data.stat()
            os.chown(path, status.st_uid, status.st_gid)
    return pairs


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
