"""TLS to a Redis server, and what a person should look at where it is not had."""

from __future__ import annotations

import socket
import ssl

from runner.errors import StepFailed
from runner.source.redis_address import Address, Tls
from runner.trust import trusting

ASKED_FOR_TLS = "One that speaks TLS alone needs `tls` or a rediss:// URL."
ASKED_FOR_NONE = "It may want a client's certificate: `tls: {certificate: …, key: …}`."


class Unspoken(StepFailed):
    """The two do not come to speak TLS with each other."""

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message, remedy=remedy, local=True)


def open_tls(address: Address, tls: Tls, wait: float) -> socket.socket:
    """Connect and shake hands, for `wait` seconds at most for each. Raises Unspoken, and OSError
    where nobody answers.
    """
    context = _context(address, tls)
    try:
        opened = socket.create_connection((address.host, address.port), wait)
        try:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return context.wrap_socket(opened, server_hostname=address.host)
        except BaseException:
            opened.close()
            raise
    except ssl.SSLCertVerificationError as error:
        raise Unspoken(
            f"The certificate of {address.where} is not trusted: "
            f"{error.verify_message.rstrip('.')}.",
            remedy="Name the file of its authority as `tls: {ca: …}`, and the name that it is for.",
        ) from error
    except (ssl.SSLError, TimeoutError, ConnectionResetError) as error:
        silent = isinstance(error, TimeoutError)
        why = "it does not answer" if silent else getattr(error, "reason", "") or error.strerror
        raise Unspoken(
            f"TLS with the Redis server at {address.where} failed: {why or error}.",
            remedy="Does it speak TLS on this port? Look at `tls` of the source.",
        ) from error


def _context(address: Address, tls: Tls) -> ssl.SSLContext:
    """How it is spoken. Raises Unspoken where a file is none of what it is declared as."""
    try:
        context = trusting(tls.ca)
        if tls.certificate:
            # Without a passphrase the library would ask for one, at the terminal.
            context.load_cert_chain(tls.certificate, tls.key, password="")
        if not tls.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
    except OSError as error:  # of which ssl.SSLError is one; neither says which file it was
        files = " and ".join(one for one in (tls.ca, tls.certificate, tls.key) if one)
        raise Unspoken(
            f"The files for TLS with {address.where} cannot be used: {files}: "
            f"{error.strerror or error}.",
            remedy="Look at `tls` of the source: `ca` and `certificate` are PEM files, and `key` "
            "is that of the certificate, without a passphrase.",
        ) from error
    return context
