"""A restored service whose page answers 200 whatever happens, and who asks it: `page.py WORDS`.

Ends with 0 if the page has the words. It answers at a socket of its own folder, as no network is
needed for that; without a license it shows an error page.
"""

from __future__ import annotations

import http.client
import http.server
import os
import socket
import socketserver
import sys
import tempfile
import threading
from pathlib import Path


class Page(http.server.BaseHTTPRequestHandler):
    """The only page."""

    def do_GET(self) -> None:
        """Answer 200, and say how it is in the body."""
        licensed = "QUAY_LICENSE" in os.environ
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"200 players online" if licensed else b"<h1>Sorry</h1> no license")

    def address_string(self) -> str:
        """A socket has no address."""
        return "here"


def asked(path: str) -> tuple[int, str]:
    """The status and the body that a server at a socket answers."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(path)
    connection.request("GET", "/")
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


with tempfile.TemporaryDirectory() as folder:
    path = str(Path(folder) / "socket")
    with socketserver.UnixStreamServer(path, Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        status, body = asked(path)
        server.shutdown()
print(f"the page answers {status}: {body}")
sys.exit(0 if status == http.HTTPStatus.OK and sys.argv[1] in body else 1)
