"""Compression: encoders that a stream is pushed through, decoders that one is pulled through."""

from __future__ import annotations

import importlib
import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from runner.errors import StepFailed, UsageError
from runner.store.streams import BLOCK

SUFFIXES = {"zstd": ".zst", "gzip": ".gz", "none": ""}
GZIP_FORMAT = 31  # window bits: the largest window, with gzip's header and trailer

NO_MEMORY = "not enough memory"  # in zstd's own words

DEFAULT_LEVELS = {"zstd": 3, "gzip": 2, "none": 0}

# Where no level is declared: hashes, images and what is encrypted gain nothing by zstd's usual
# level, which takes twice as long; its search may even make them larger.
QUICK_LEVEL = 1
WORTH = 1.02  # so much larger at the quick level is not worth the time of the usual one
HIGHEST_LEVELS = {"zstd": 22, "gzip": 9, "none": 0}

# Memory grows with every worker, with the level, and with what a worker takes at once: a quarter
# of the default, for files that grow by less than a thousandth.
MOST_WORKERS = 4
HIGHEST_THREADED_LEVEL = 9
BYTES_PER_JOB = 2 * 1024 * 1024

# isal has levels up to 3; zlib is slower and makes smaller files.
HIGHEST_ISAL_LEVEL = 3


class Undecodable(Exception):
    """What was stored is not what an encoder wrote."""


class Encoder(Protocol):
    """Compresses a stream block by block."""

    def block(self, data: bytes) -> bytes:
        """Take a block that others follow; return what is ready."""

    def last(self, data: bytes) -> bytes:
        """Take the last block; return the rest."""


def parse(text: str) -> tuple[str, int | None]:
    """Method and level, None if none is said, of `zstd`, `gzip:6`, …. Raises UsageError naming the
    known ones.
    """
    method, colon, level = text.partition(":")
    if method not in SUFFIXES or (colon and not (level.isascii() and level.isdigit())):
        raise UsageError(
            f"{text!r} is no compression.", remedy="Known: zstd, gzip, none; zstd:9 for a level."
        )
    number = int(level) if colon else None
    if number is not None and number > HIGHEST_LEVELS[method]:
        raise UsageError(
            f"{text!r} is no compression: {method} has levels up to {HIGHEST_LEVELS[method]}.",
            remedy=f"Write {method}:{HIGHEST_LEVELS[method]} or less.",
        )
    return method, number


def encoder(compression: str) -> Encoder:
    """A new encoder for one stream."""
    method, level = parse(compression)
    if method == "zstd":
        return _Zstd(level)
    if method == "gzip":
        return _Gzip(DEFAULT_LEVELS[method] if level is None else level)
    return _Plain()


def decoded(suffix: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The content of `chunks`, in pieces of bounded size. Raises Undecodable."""
    if suffix == SUFFIXES["zstd"]:
        return _unzstd(chunks)
    if suffix == SUFFIXES["gzip"]:
        return _gunzip(chunks)
    return iter(chunks)


class _Plain:
    def block(self, data: bytes) -> bytes:
        return data

    def last(self, data: bytes) -> bytes:
        return data


class _Gzip:
    def __init__(self, level: int) -> None:
        module = _isal() if level <= HIGHEST_ISAL_LEVEL else zlib
        self._compressor: Any = module.compressobj(level, zlib.DEFLATED, GZIP_FORMAT)

    def block(self, data: bytes) -> bytes:
        compressed: bytes = self._compressor.compress(data)
        return compressed

    def last(self, data: bytes) -> bytes:
        return self.block(data) + bytes(self._compressor.flush())


class _Zstd:
    """Begins when it has seen BLOCK bytes: what ends before needs no threads, and the beginning of
    what does not tells its level.
    """

    def __init__(self, level: int | None) -> None:
        self._level = level
        self._compressor: Any = None
        self._beginning = bytearray()

    def _start(self, level: int, workers: int) -> Any:
        zstd = _zstd()
        parameter = zstd.CompressionParameter
        options = {parameter.compression_level: level, parameter.checksum_flag: 1}
        if workers > 1:
            options |= {parameter.nb_workers: workers, parameter.job_size: BYTES_PER_JOB}
        return zstd.ZstdCompressor(options=options)

    def block(self, data: bytes) -> bytes:
        if self._compressor is None:
            self._beginning += data
            if len(self._beginning) < BLOCK:
                return b""
            data = bytes(self._beginning)
            level = _level_for(data) if self._level is None else self._level
            self._compressor = self._start(level, _workers(level))
        compressed: bytes = self._compressor.compress(data)
        return compressed

    def last(self, data: bytes) -> bytes:
        compressor = self._compressor
        if compressor is None:
            data = bytes(self._beginning) + data
            compressor = self._start(self._level or DEFAULT_LEVELS["zstd"], 0)
            # The encoder then takes no more memory than so much content needs.
            compressor.set_pledged_input_size(len(data))
        return bytes(compressor.compress(data) + compressor.flush())


def _level_for(beginning: bytes) -> int:
    """The level that fits a stream, by what its beginning gains."""
    usual = DEFAULT_LEVELS["zstd"]
    quick, slow = (len(_zstd().compress(beginning, level=one)) for one in (QUICK_LEVEL, usual))
    return QUICK_LEVEL if quick <= slow * WORTH else usual


def _workers(level: int) -> int:
    if level > HIGHEST_THREADED_LEVEL:
        return 0
    return min(MOST_WORKERS, len(os.sched_getaffinity(0)))


def _zstd() -> Any:
    name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    return importlib.import_module(name)


def _isal() -> Any:
    return importlib.import_module("isal.isal_zlib")


def _unzstd(chunks: Iterable[bytes]) -> Iterator[bytes]:
    zstd = _zstd()
    decompressor = zstd.ZstdDecompressor()
    try:
        for chunk in chunks:
            _refuse_more(decompressor, chunk)
            yield decompressor.decompress(chunk, BLOCK)
            while not decompressor.needs_input and not decompressor.eof:
                yield decompressor.decompress(b"", BLOCK)
    except zstd.ZstdError as error:
        if NO_MEMORY in str(error):
            raise StepFailed(
                "There is not enough memory to decompress what is stored.",
                remedy="Do it on a machine that has more, or when less runs beside it.",
                local=True,
            ) from error
        raise Undecodable("it cannot be decompressed") from error
    _require_end(decompressor)


def _gunzip(chunks: Iterable[bytes]) -> Iterator[bytes]:
    isal = _isal()
    decompressor = isal.decompressobj(GZIP_FORMAT)
    try:
        for chunk in chunks:
            _refuse_more(decompressor, chunk)
            yield decompressor.decompress(chunk, BLOCK)
            while decompressor.unconsumed_tail and not decompressor.eof:
                yield decompressor.decompress(decompressor.unconsumed_tail, BLOCK)
    except isal.IsalError as error:
        raise Undecodable("it cannot be decompressed") from error
    _require_end(decompressor)


def _refuse_more(decompressor: Any, chunk: bytes) -> None:
    if decompressor.eof and chunk:
        raise Undecodable("something follows its end")


def _require_end(decompressor: Any) -> None:
    if not decompressor.eof:
        raise Undecodable("it ends too early")
    if decompressor.unused_data:
        raise Undecodable("something follows its end")
