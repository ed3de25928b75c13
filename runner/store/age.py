"""Encryption: standard age files, by pyrage or, where no wheel of it fits, the `age` program.

Large files that an X25519 identity opens are read by `age_reader`, which is faster.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, BinaryIO

from runner import process
from runner.errors import PersonNeeded, StepFailed, UsageError
from runner.store import age_reader
from runner.store.compression import Undecodable
from runner.store.streams import BLOCK, ChunkReader, Pipe, PipeWriter, Stages

SUFFIX = ".age"
NO_MATCH = re.compile("no matching keys|no identity matched", re.IGNORECASE)

# pyrage reads 8 KiB at a time, and lets other threads run only while this buffer is filled.
READ_BUFFER = 256 * 1024

_SSH_KEY = re.compile(
    r"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.*?-----END \1PRIVATE KEY-----\n?", re.DOTALL
)
_LOCKED_AGE = ("age-encryption.org/", "-----BEGIN AGE ENCRYPTED FILE-----")


class NoIdentity(Exception):
    """None of the identities opens the file, or its header is damaged."""


def keygen() -> tuple[str, str]:
    """A new identity file's text, which is secret, and its recipient, which is not."""
    pyrage = _pyrage()
    if pyrage is None:
        text = process.run(["age-keygen"]).stdout.decode()
        return text, text.partition("# public key: ")[2].split()[0]
    identity = pyrage.x25519.Identity.generate()
    recipient = str(identity.to_public())
    created = datetime.now(UTC).replace(microsecond=0).isoformat()
    return f"# created: {created}\n# public key: {recipient}\n{identity}\n", recipient


def parse_identities(text: str) -> tuple[str, ...]:
    """The identities in an age identity file or an ssh private key, one text each.

    Raises PersonNeeded, which never quotes the text, when there is none or it is locked.
    """
    if text.lstrip().startswith(_LOCKED_AGE):
        raise PersonNeeded(
            "The identity's file is itself encrypted with a passphrase.",
            remedy="Decrypt it first: age -d -o key.txt key.age",
        )
    found = [match[0].rstrip("\n") + "\n" for match in _SSH_KEY.finditer(text)]
    for number, line in enumerate(_SSH_KEY.sub("", text).splitlines(), start=1):
        word = line.strip()
        if not word or word.startswith("#"):
            continue
        if not word.startswith("AGE-SECRET-KEY-1"):
            raise PersonNeeded(
                f"Line {number} of the identity's file is no age identity.",
                remedy="Lines start with AGE-SECRET-KEY-1 or #; an ssh private key stands whole.",
            )
        found.append(word)
    if not found:
        raise PersonNeeded("The identity's file holds no identity.", remedy="Give another file.")
    return tuple(found)


def encrypt(chunks: Iterable[bytes], pipe: Pipe, recipients: Sequence[str]) -> None:
    """Write the age file of `chunks` to `pipe`. Raises UsageError for a bad recipient."""
    pyrage = _pyrage()
    if pyrage is None:
        arguments = ["age", *(word for one in recipients for word in ("-r", one))]
        _through_program(arguments, chunks, pipe.write)
        return
    keys = [_recipient(pyrage, one) for one in recipients]
    with _original_errors(chunks, pipe) as (reader, writer):
        pyrage.encrypt_io(reader, writer, keys)


def encrypt_bytes(data: bytes, recipients: Sequence[str]) -> bytes:
    """The age file of a small content."""
    pyrage = _pyrage()
    if pyrage is None:
        return _collected(lambda pipe: encrypt([data], pipe, recipients))
    encrypted: bytes = pyrage.encrypt(data, [_recipient(pyrage, one) for one in recipients])
    return encrypted


def decrypt(chunks: Iterable[bytes], pipe: Pipe, identities: Sequence[str]) -> None:
    """Write the content of an age file to `pipe`; `identities` are single ones, parsed.

    Raises NoIdentity or Undecodable; what was written before that came from whoever encrypted.
    """
    pyrage = _pyrage()
    if pyrage is None:
        with _files(identities) as paths:
            arguments = ["age", "-d", *(word for path in paths for word in ("-i", path))]
            _through_program(arguments, chunks, pipe.write)
        return
    keys = [_identity(pyrage, one) for one in identities]
    rest = iter(chunks)
    head = _head(rest)
    content = age_reader.opened(head, rest, identities)
    if content is not None:
        for block in content:
            pipe.write(block)
        return
    with (
        _translated(pyrage),
        _original_errors(itertools.chain([head], rest), pipe) as (reader, writer),
    ):
        pyrage.decrypt_io(reader, writer, keys)


def decrypt_bytes(data: bytes, identities: Sequence[str]) -> bytes:
    """The content of a small age file. Raises NoIdentity or Undecodable."""
    pyrage = _pyrage()
    if pyrage is None:
        return _collected(lambda pipe: decrypt([data], pipe, identities))
    keys = [_identity(pyrage, one) for one in identities]
    with _translated(pyrage):
        content: bytes = pyrage.decrypt(data, keys)
    return content


def _head(chunks: Iterator[bytes]) -> bytes:
    """So much of a file that its header is in it, whole."""
    head = bytearray()
    for chunk in chunks:
        head += chunk
        if len(head) >= age_reader.MOST_HEADER_BYTES:
            break
    return bytes(head)


def _pyrage() -> Any:
    """The library, or None where there is no wheel for this machine."""
    try:
        import pyrage
    except ImportError:
        return None
    return pyrage


def _recipient(pyrage: Any, text: str) -> Any:
    family = pyrage.ssh if text.startswith("ssh-") else pyrage.x25519
    try:
        return family.Recipient.from_str(text)
    except pyrage.RecipientError as error:
        raise UsageError(
            f"{text!r} is no recipient: {error}.",
            remedy="A recipient is an age1… or an ssh-ed25519 or ssh-rsa public key.",
        ) from error


def _identity(pyrage: Any, text: str) -> Any:
    try:
        if text.startswith("-----BEGIN"):
            return pyrage.ssh.Identity.from_buffer(text.encode())
        return pyrage.x25519.Identity.from_str(text)
    except pyrage.IdentityError as error:
        raise PersonNeeded(
            f"The identity cannot be used: {error}.",
            remedy="It must be whole and without a passphrase; ssh-keygen -p removes one.",
        ) from None


@contextlib.contextmanager
def _original_errors(chunks: Iterable[bytes], pipe: Pipe) -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """Files for pyrage; an error of theirs is raised as it was, not as pyrage words it."""
    source, sink = ChunkReader(chunks), PipeWriter(pipe)
    writer = io.BufferedWriter(sink, BLOCK)
    try:
        yield io.BufferedReader(source, READ_BUFFER), writer
        writer.flush()
    except Exception:
        if original := source.error or sink.error:
            raise original from original.__cause__
        raise
    finally:
        # An unflushed writer would write again when it is collected.
        sink.close()


@contextlib.contextmanager
def _translated(pyrage: Any) -> Iterator[None]:
    try:
        yield
    except pyrage.DecryptError as error:
        raise _explained(str(error)) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise _explained(str(error)) from error


def _explained(words: str) -> Exception:
    return NoIdentity(words) if NO_MATCH.search(words) else Undecodable("it cannot be decrypted")


def _through_program(
    arguments: Sequence[str], chunks: Iterable[bytes], write: Callable[[bytes], None]
) -> None:
    with (
        process.temporary_file() as errors,
        Stages() as stages,
        process.started(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        ) as program,
    ):
        assert program.stdin is not None
        assert program.stdout is not None
        stdin, stdout = program.stdin, program.stdout

        def feed(_: Pipe) -> None:
            # A program that stops reading says why by its status.
            with contextlib.suppress(BrokenPipeError), stdin:
                for chunk in chunks:
                    stdin.write(chunk)

        fed = stages.run(feed)
        while data := os.read(stdout.fileno(), BLOCK):
            write(data)
        status = program.wait()
        for _ in fed:
            pass
        if status != 0:
            errors.seek(0)
            _refuse(arguments, status, errors.read(4096).decode(errors="replace"))


def _refuse(arguments: Sequence[str], status: int, words: str) -> None:
    if status < 0:
        raise StepFailed(f"age was ended by signal {-status}.", local=True)
    if "-d" in arguments:
        raise _explained(words)
    raise StepFailed(f"age failed: {words.strip()}", remedy="Check the recipients.")


@contextlib.contextmanager
def _files(identities: Sequence[str]) -> Iterator[list[str]]:
    """Paths under which a child of this process reads the identities, which touch no disk."""
    with contextlib.ExitStack() as stack:
        paths = []
        for one in identities:
            file = stack.enter_context(os.fdopen(os.memfd_create("identity"), "wb", buffering=0))
            file.write(one.encode() + b"\n")
            paths.append(f"/proc/{os.getpid()}/fd/{file.fileno()}")
        yield paths


def _collected(work: Callable[[Pipe], None]) -> bytes:
    with Stages() as stages:
        return b"".join(stages.run(work))
