"""Reads age files that an X25519 identity opens: a third of the processor time that pyrage takes.

Only reading is done here. Every piece is authenticated before it is handed on, so that a mistake
is an error and no wrong content; what is written, the library writes. The format is that of
https://c2sp.org/age.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, product
from typing import TYPE_CHECKING

from runner.store.compression import Undecodable

# It takes long to import, and what is small is opened without it.
if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

MOST_HEADER_BYTES = 16 * 1024  # some hundred recipients

_CHUNK = 64 * 1024  # bytes of content
_TAG = 16
_SEALED = _CHUNK + _TAG
_NONCE = 16
_FILE_KEY = 16

# Letters and lines as the format prescribes them; its other rules are told where they are met.
_STANZA = re.compile(rb"-> ([!-~]+(?: [!-~]+)*)\n((?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{0,63})\n")
_HEADER = re.compile(
    rb"age-encryption\.org/v1\n(?P<stanzas>(?:"
    + _STANZA.pattern
    + rb")+)---(?= (?P<code>[A-Za-z0-9+/]{43})\n)"
)
_LABEL = b"age-encryption.org/v1/X25519"
_IDENTITY = "AGE-SECRET-KEY-1"
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_BECH32_SUM = 6  # letters


def opened(head: bytes, rest: Iterable[bytes], identities: Sequence[str]) -> Iterator[bytes] | None:
    """The content of an age file that begins with `head` and goes on with `rest`, in blocks about
    as large as those.

    None where this reader is of no help: `head` has no whole header, or none of the identities,
    which are valid, is an X25519 one that opens it. Iterating raises Undecodable.
    """
    found = _HEADER.match(head)
    if found is None:
        return None
    start = found.end("code") + len(b"\n")
    nonce = head[start : start + _NONCE]
    own = [one for one in identities if one.startswith(_IDENTITY)]
    key = _file_key(found[0], found["stanzas"], found["code"], own)
    if key is None or len(nonce) < _NONCE:
        return None
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    cipher = ChaCha20Poly1305(_derived(key, nonce, b"payload"))
    return _content(cipher, chain([head[start + _NONCE :]], rest))


def _content(cipher: ChaCha20Poly1305, blocks: Iterable[bytes]) -> Iterator[bytes]:
    number, held, room = 0, b"", bytearray()
    for block in blocks:
        chunks, held = _cut(held, block)
        if len(room) < len(chunks) * _CHUNK:
            room = bytearray(len(chunks) * _CHUNK)
        content = memoryview(room)[: len(chunks) * _CHUNK]
        for at, sealed in zip(range(0, len(content), _CHUNK), chunks, strict=True):
            _open(cipher, number, sealed, content[at : at + _CHUNK])
            number += 1
        yield bytes(content)
    ending = bytearray(max(0, len(held) - _TAG))
    _open(cipher, number, held, ending, last=True)
    if number and not ending:
        raise Undecodable("its last chunk is empty")
    yield bytes(ending)


def _cut(held: bytes, block: bytes) -> tuple[list[bytes | memoryview], bytes]:
    """The sealed chunks that `block` makes whole, and what is held back: a byte at least, since
    only the end of the file tells which chunk is the last.
    """
    if len(held) + len(block) <= _SEALED:
        return [], held + block
    # One chunk is joined, and no other is copied: that would cost a tenth of the whole.
    start = _SEALED - len(held)
    rest = memoryview(block)[start:]
    end = (len(rest) - 1) // _SEALED * _SEALED
    chunks: list[bytes | memoryview] = [held + block[:start]]
    chunks += [rest[at : at + _SEALED] for at in range(0, end, _SEALED)]
    return chunks, bytes(rest[end:])


def _open(
    cipher: ChaCha20Poly1305,
    number: int,
    sealed: bytes | memoryview,
    content: bytearray | memoryview,
    *,
    last: bool = False,
) -> None:
    """Decrypt a chunk into `content`, which is as large as it will be. Raises Undecodable."""
    from cryptography.exceptions import InvalidTag

    try:
        cipher.decrypt_into(number.to_bytes(11, "big") + bytes([last]), sealed, None, content)
    except InvalidTag:
        raise Undecodable("it cannot be decrypted") from None


def _file_key(
    header: bytes, stanzas: bytes, code: bytes, identities: Sequence[str]
) -> bytes | None:
    """The key of the file; None where no identity opens it, or the header is not authentic."""
    wrapped = []
    for line, lines in _STANZA.findall(stanzas):
        body = _decoded(lines.replace(b"\n", b""))
        if body is None:
            return None
        wrapped.append((line, body))
    for (line, body), identity in product(wrapped, identities):
        key = _unwrapped(line, body, identity)
        if key is not None:
            expected = hmac.digest(_derived(key, b"", b"header"), header, "sha256")
            return key if hmac.compare_digest(expected, _decoded(code) or b"") else None
    return None


def _unwrapped(line: bytes, body: bytes, identity: str) -> bytes | None:
    """The file's key in a stanza; None where it is not for the identity."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric import x25519
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    kind, *words = line.split(b" ")
    share = _decoded(words[0]) if kind == b"X25519" and len(words) == 1 else None
    if share is None or len(body) != _FILE_KEY + _TAG:
        return None
    secret = x25519.X25519PrivateKey.from_private_bytes(_secret(identity))
    recipient = secret.public_key().public_bytes_raw()
    try:
        shared = secret.exchange(x25519.X25519PublicKey.from_public_bytes(share))
        wrapping = _derived(shared, share + recipient, _LABEL)
        return ChaCha20Poly1305(wrapping).decrypt(bytes(12), body, None)
    except (InvalidTag, ValueError):  # another recipient's, or a share that no one draws
        return None


def _derived(key: bytes, salt: bytes, info: bytes) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(key)


def _decoded(text: bytes) -> bytes | None:
    """What stands in base64 without padding; None where that would be written in another way."""
    try:
        data = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        return None
    return data if base64.b64encode(data).rstrip(b"=") == text else None


def _secret(identity: str) -> bytes:
    """The 32 bytes of an identity, whose checksum somebody has checked (BIP 173)."""
    letters = identity.strip().lower().rpartition("1")[2][:-_BECH32_SUM]
    bits = "".join(f"{_BECH32.index(letter):05b}" for letter in letters)
    return bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits) - 7, 8))
