"""A server that takes messages as a chat's incoming webhook does, and keeps what it heard."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class Chat(http.server.BaseHTTPRequestHandler):
    """Takes what is posted, and answers what is asked."""

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.server.heard.append((self.path, json.loads(self.rfile.read(length))))  # type: ignore[attr-defined]
        status = 404 if "missing" in self.path else 301 if "moved" in self.path else 200
        self.send_response(status)
        if status == 301:
            self.send_header("Location", "/")
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"all is well")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def serving(certificate: Path | None = None) -> Iterator[Any]:
    """A server of this machine, over TLS with a certificate and its key in one file."""
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Chat)
    server.heard = []
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
