"""Whose certificates are taken: those that other programs take, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl


def trusting(ca: str | None = None) -> ssl.SSLContext:
    """What the system trusts, or the authorities in the file `ca`. Raises OSError where that cannot
    be used.

    Python 3.13 and later also refuse an authority of one's own that lacks some extension, as most
    do that somebody made by hand; curl, libpq and the servers' own clients take it.
    https://docs.python.org/3/library/ssl.html#ssl.create_default_context
    """
    import ssl

    context = ssl.create_default_context(cafile=ca)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context
