"""The live page, for this machine alone: a web server on the loopback interface.

A request is refused where its Host is no name of this machine: a page of another site could otherwise let a name of
its own point here and read the answers (DNS rebinding). The port is not compared, as a forwarded one (`ssh -L`) is
another.
"""

import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from qresearch.reports.live_folder import LiveFolder
from qresearch.reports.report import page
from qresearch.reports.report_data import document

ADDRESS = "127.0.0.1"
NAMES = (ADDRESS, "localhost")
HTML, JSON, TEXT = "text/html; charset=utf-8", "application/json", "text/plain; charset=utf-8"


class Dashboard(ThreadingHTTPServer):
    """Serves a folder at `http://127.0.0.1:port`; port 0 takes a free one. Raises OSError where the port is taken."""

    daemon_threads = True

    def __init__(self, source: LiveFolder, port: int):
        super().__init__((ADDRESS, port), _Handler)
        self.source = source
        self.page = page(title=source.about["title"], data=document(source.about, [])).encode()

    @property
    def address(self) -> str:
        return f"http://{ADDRESS}:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader who leaves in the middle of an answer is no error; anything else shows its traceback."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Dashboard

    def do_GET(self) -> None:
        if self._host() not in NAMES:
            self._send(HTTPStatus.FORBIDDEN, TEXT, b"This dashboard answers to 127.0.0.1 and localhost alone.\n")
            return
        asked = urlsplit(self.path)
        values = {name: given[-1] for name, given in parse_qs(asked.query).items()}
        source = self.server.source
        if asked.path == "/":
            self._send(HTTPStatus.OK, HTML, self.server.page)
        elif asked.path == "/data":
            since = values.get("since", "")
            sound = since.isdecimal() and len(since) < 16
            content = source.answer(values.get("epoch", ""), int(since) if sound else 0)
            self._send(HTTPStatus.OK, JSON, content)
        elif asked.path == "/curves" and (curves := source.curves(values.get("run", ""))) is not None:
            self._send(HTTPStatus.OK, JSON, curves)
        else:
            self._send(HTTPStatus.NOT_FOUND, TEXT, b"There is no such page.\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the terminal is for messages."""

    def _host(self) -> str:
        """The name in the request's Host, without its port."""
        return self.headers.get("Host", "").rsplit(":", 1)[0].lower()

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Cache-Control": "no-store",
            "Cross-Origin-Resource-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
