"""A web server of this machine with files in memory, which answers range requests and fails when it is told to."""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_RANGE = re.compile(r"bytes=(\d+)-(\d+)?")


class HttpFiles:
    """Files by name, and how requests for them went.

    Attributes:
        files: contents; may be changed at any time.
        url: of the folder, with a slash at its end.
        ranges: False answers with whole files, whatever range was asked for.
        failures: of the next requests for contents, each one of: a status, "drop" (the connection is closed halfway), or seconds to wait.
        requests: (method, name, range) of all requests so far.
        keys: the header X-Key of each request.
        etag: what is sent as such; None sends none, and no date either.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.url = ""
        self.ranges = True
        self.failures: deque[int | float | str] = deque()
        self.requests: list[tuple[str, str, str | None]] = []
        self.keys: list[str | None] = []
        self.etag: str | None = '"1"'


@contextmanager
def serve() -> Iterator[HttpFiles]:
    """A server on a free port of 127.0.0.1, until the end of the block."""
    files = HttpFiles()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(False)

        def do_GET(self) -> None:
            self._answer(True)

        def log_message(self, *arguments: object) -> None:
            pass

        def _answer(self, with_body: bool) -> None:
            name = self.path.partition("?")[0].lstrip("/")
            files.requests.append((self.command, name, self.headers.get("Range")))
            files.keys.append(self.headers.get("X-Key"))
            failure = files.failures.popleft() if with_body and files.failures else None
            if isinstance(failure, float):
                time.sleep(failure)
            if isinstance(failure, int):
                return self._send(failure, b"", {}, with_body)
            if name not in files.files:
                return self._send(404, b"", {}, with_body)
            self._send_file(files.files[name], with_body, failure == "drop")

        def _send_file(self, content: bytes, with_body: bool, drop: bool) -> None:
            headers = {"Accept-Ranges": "bytes" if files.ranges else "none"} | ({"ETag": files.etag} if files.etag else {})
            status, wanted = 200, _RANGE.fullmatch(self.headers.get("Range", ""))
            if wanted and files.ranges:
                start, stop = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1) + 1
                headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
                status, content = 206, content[start:stop]
            self._send(status, content, headers, with_body, drop)

        def _send(self, status: int, body: bytes, headers: dict[str, str], with_body: bool, drop: bool = False) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write((body[: len(body) // 2] if drop else body) if with_body else b"")
            except OSError:
                self.close_connection = True  # who asked is gone
            if drop:
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    files.url = f"http://127.0.0.1:{server.server_address[1]}/"
    try:
        yield files
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
