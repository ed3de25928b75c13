"""What every type of target says of keys, and of the chunks that it is given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from runner.errors import UsageError


def own(name: str) -> bool:
    """Whether a file or folder of that name is a target's own: unfinished, or a lock."""
    return name.startswith(".") and name.endswith((".partial", ".lock"))


def parts_of(key: str) -> list[str]:
    """The names that a key is made of. Raises UsageError when it is no key of a target."""
    parts = key.split("/")
    if "\0" in key or any(part in ("", ".", "..") for part in parts) or own(parts[-1]):
        raise UsageError(f"{key!r} is not a key of a target.")
    return parts


def require_portable(key: str) -> None:
    """Raise UsageError when it is no key, or none that every machine can write down."""
    parts_of(key)
    try:
        key.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{key!r} is not a key of a target.") from None


def listed(key: str) -> bool:
    """Whether a listing shows that key: nothing of it is a target's own."""
    return not any(own(part) for part in key.split("/"))


class Incoming:
    """The chunks of a put. `error` is what they raised, which is no fault of the target."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.begun = False
        self.bytes = 0  # handed on so far
        self.error: BaseException | None = None
        self._chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        self.begun = True
        try:
            for chunk in self._chunks:
                if chunk:
                    self.bytes += len(chunk)
                    yield chunk
        except GeneratorExit:
            raise
        except BaseException as error:
            self.error = error
            raise
