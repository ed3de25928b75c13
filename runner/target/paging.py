"""Lists that a server gives page by page: some servers, and proxies, give one page for ever."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeAlias

from runner.target.object_errors import ENDLESS
from runner.target.s3_request import Unreachable

if TYPE_CHECKING:
    from obstore import ListResult, ObjectMeta
    from obstore.store import ObjectStore

    Listed: TypeAlias = ListResult[Sequence[ObjectMeta]]

LONGEST_SECONDS = 600.0  # for the names of the folders, of which a page has a thousand


def to_its_end(found: Iterable[ObjectMeta]) -> Iterator[ObjectMeta]:
    """The same objects. Raises Unreachable once they begin anew: when the one comes again and again
    that was the first, the third, the seventh, and so on. So nothing but one key is kept. Once more
    it may stand in an honest list: it was written meanwhile.
    """
    mark, stretch, left, again = "", 1, 1, 0
    for one in found:
        again += one["path"] == mark
        if again == 2:
            raise Unreachable(ENDLESS)
        left -= 1
        if left == 0:
            stretch *= 2
            mark, left, again = one["path"], stretch, 0
        yield one


def right_below(store: ObjectStore, prefix: str) -> Listed:
    """The folders and objects right below a folder. Raises Unreachable where they never end."""
    import obstore

    answer: Future[Listed] = Future()

    def ask() -> None:
        try:
            answer.set_result(obstore.list_with_delimiter(store, prefix or None))
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            answer.set_exception(error)

    # A daemon: a list without an end must not keep the process from ending.
    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.result(LONGEST_SECONDS)
    except TimeoutError:
        raise Unreachable(ENDLESS) from None
