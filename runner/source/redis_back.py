"""What restores of a Redis server replaced: noted, found again, put back, let go.

A safety copy of keys is a file with all that was live. To put it back is to restore that file in
the place of everything; where files of the server itself were exchanged, they are exchanged again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from runner import swap
from runner.durable import make_folder
from runner.errors import StepFailed
from runner.source import Copy, Fingerprint, Kept, redis_files, redis_members, replaced
from runner.source.redis_choose import Chosen, as_list, both, from_list, named
from runner.source.redis_file import Summary, chunks
from runner.source.redis_spot import Owned, Spot, Staged
from runner.source.redis_stage import stage_unseen
from runner.source.redis_swap import BEGUN, DONE, FILE, alive, exchange

UNPROVEN = "what is put back is a safety copy"


class _Copies:
    """Safety copies as the artifacts of a restore."""

    def __init__(self, paths: Sequence[Path], chosen: Sequence[int] | None) -> None:
        self.fingerprint: Fingerprint = {"chosen": chosen}  # nothing is compared
        self._paths = {str(number): path for number, path in enumerate(paths)}

    @property
    def parts(self) -> Sequence[str]:
        return list(self._paths)

    def read(self, part: str = "") -> Iterator[bytes]:
        return chunks(self._paths[part])


def note_of(spot: Spot, owned: Owned | None) -> dict[str, Any]:
    """What it takes to put back what a swap replaced."""
    records = [one.progress() or {} for one in redis_members.known(spot)]
    if owned is not None and records[0].get("way") == FILE:
        moves = redis_files.moves(spot, owned)
        return {**replaced.note_of(moves, spot.place.token), "copies": alive(spot, records[0])}
    copies = [copy for one in records for copy in one.get("copies", ())]
    return {"copies": copies, "databases": records[0].get("databases")}


def put_back(spot: Spot, kept: Kept) -> list[str]:
    """Bring back what was live, in the place of everything; return the safety copies.

    The spot's place says `existing: flush`.
    """
    if not kept["copies"] and "moves" in kept:
        return _exchange_files(spot, kept)
    if not spot.note.exists():
        _require_all(spot, from_list(kept.get("databases")))
        paths = [Path(one) for one in kept["copies"]]
        gone = [path for path in paths if not path.exists()]
        if gone:
            raise StepFailed(
                f"The safety copy {gone[0]} is gone, so what was there cannot be put back.",
                remedy="Restore a snapshot: `list` shows what there is.",
            )
        make_folder(spot.workspace)
        stage_unseen(spot, _Copies(paths, kept.get("databases")), UNPROVEN)
    return exchange(spot)


def copies(kept: Kept) -> list[Copy]:
    """The files that there are."""
    paths = [Path(one) for one in kept["copies"]]
    found = [Copy(str(one), one.stat().st_size) for one in paths if one.exists()]
    return found + (replaced.copies(kept) if "moves" in kept else [])


def drop(kept: Kept) -> None:
    """Remove them."""
    if "moves" in kept:
        replaced.drop(kept)
    for path in kept["copies"]:
        Path(path).unlink(missing_ok=True)


def _require_all(spot: Spot, replaced: Chosen) -> None:
    """Raise StepFailed where the source is no longer all that the restore replaced: the rest would
    stay as it was restored, and its safety copy be forgotten.
    """
    if replaced is not None and both(spot.chosen, replaced) != replaced:
        raise StepFailed(
            f"{named(replaced)} of {spot.name} were replaced, and its spec names "
            f"{named(spot.chosen or ())}.",
            remedy=f"Declare `databases: {as_list(replaced)}` of the source for the rollback.",
        )


def _exchange_files(spot: Spot, kept: Kept) -> list[str]:
    if spot.owned is None:
        raise StepFailed(
            f"The files of {spot.name} were exchanged, and its spec no longer says how.",
            remedy="Declare `data_dir`, `stop` and `start` of the source again.",
        )
    if spot.chosen is not None:
        raise StepFailed(
            f"The files of {spot.name} were exchanged, with all databases of the server, and its "
            f"spec names {named(spot.chosen)}.",
            remedy="Declare `databases: all` of the source for the rollback, if nobody else uses "
            "the server.",
        )
    if not spot.note.exists():
        spot.write(spot.note, Staged((), (), Summary(), 0, (0, 0), UNPROVEN).to_json())
    record = {"state": BEGUN, "way": FILE, "copies": []}
    spot.write(spot.record, record)
    back: list[swap.Move] = []
    if not redis_files.begun(spot, spot.owned):
        back = replaced.moves_back(kept, spot.place.token)
    copies = redis_files.put_back(spot, spot.owned, back)
    spot.write(spot.record, record | {"copies": copies, "state": DONE})
    return copies
