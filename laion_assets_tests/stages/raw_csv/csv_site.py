"""A real HTTP server with directory listings, ranges, validators and faults on demand."""

import re
import threading
import time
from dataclasses import dataclass, field
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote


@dataclass
class Request:
    """A request that the server received."""

    path: str
    host: str
    range: str | None
    status: int = 0
    sent: int = 0


@dataclass
class CsvSite:
    """A site of CSV files.

    `files` are contents by path. `cuts` are lengths after which the next responses of a path are truncated, `statuses`
    the next statuses of a path. `pages` replaces listings by path (content type and body), `headers` adds headers to a
    file. `ranges` enables range requests, `status` is the status of files and pages, `pace_s` a pause before each
    100 kB of a file. Files are held back until `hold_until` requests are in progress.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    extra_links: list[str] = field(default_factory=list)
    pages: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    status: int = 200
    validators: bool = True
    ranges: bool = True
    pace_s: float = 0.0
    port: int = 0
    connections: int = 0
    most_at_once: int = 0
    hold_until: int = 0
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> "CsvSite":
        site, lock, busy = self, threading.Lock(), 0

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                with lock:
                    site.connections += 1

            def do_GET(self) -> None:
                nonlocal busy
                with lock:
                    busy += 1
                    site.most_at_once = max(site.most_at_once, busy)
                try:
                    site._answer(self)
                finally:
                    with lock:
                        busy -= 1

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        """`127.0.0.1:port`."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """URL of the listing."""
        return f"http://{self.address}/crawl/"

    def bodies(self) -> list[Request]:
        """Requests for files (not listings) that were sent any bytes."""
        return [request for request in self.requests if not request.path.endswith("/") and request.sent]

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        path = unquote(handler.path)
        request = Request(path, handler.headers.get("Host", ""), handler.headers.get("Range"))
        self.requests.append(request)
        name = path.removeprefix("/crawl/")
        if path in self.redirects:
            self._send(handler, request, 302, {"Location": self.redirects[path]}, b"")
        elif self.statuses.get(name):
            self._send(handler, request, self.statuses[name].pop(0), {}, b"not now")
        elif name in self.pages:
            kind, page = self.pages[name]
            self._send(handler, request, self.status, {"Content-Type": kind} | self.headers.get(name, {}), page)
        elif path.endswith("/"):
            self._send(handler, request, 200, {"Content-Type": "text/html"}, self._listing(name))
        elif name in self.files:
            self._file(handler, request, name)
        else:
            self._send(handler, request, 404, {}, b"not found")

    def _listing(self, folder: str) -> bytes:
        names = {name.removeprefix(folder) for name in self.files if name.startswith(folder)}
        entries = sorted({re.sub("/.*", "/", name) for name in names})
        links = ["../", "?C=N;O=D", *map(quote, entries), *self.extra_links]
        return ("<html><body>" + "".join(f'<a href="{link}">{link}</a>\n' for link in links)).encode()

    def _file(self, handler: BaseHTTPRequestHandler, request: Request, name: str) -> None:
        deadline = time.monotonic() + 20
        while self.most_at_once < self.hold_until and time.monotonic() < deadline:
            time.sleep(0.05)
        body = self.files[name]
        etag = f'"{md5(body).hexdigest()}"'
        headers = ({"ETag": etag} if self.validators else {}) | self.headers.get(name, {})
        if self.validators and handler.headers.get("If-None-Match") == etag:
            self._send(handler, request, 304, headers, b"")
            return
        start, end, status = 0, len(body), self.status
        if self.ranges and request.range and handler.headers.get("If-Range", etag) == etag:
            first, _, last = request.range.removeprefix("bytes=").partition("-")
            start, end, status = int(first), min(int(last or end), end - 1) + 1, 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(body)}"
        cut = self.cuts[name].pop(0) if self.cuts.get(name) else None
        self._send(handler, request, status, headers, body[start:end], cut)

    def _send(
        self,
        handler: BaseHTTPRequestHandler,
        request: Request,
        status: int,
        headers: dict[str, str],
        body: bytes,
        cut: int | None = None,
    ) -> None:
        request.status = status
        handler.send_response(status)
        for header, value in headers.items():
            handler.send_header(header, value)
        if status != 304:
            handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        sent = body if cut is None else body[:cut]
        if status != 304:
            for start in range(0, len(sent), 100_000):
                time.sleep(self.pace_s)
                handler.wfile.write(sent[start : start + 100_000])
                request.sent += len(sent[start : start + 100_000])
        if cut is not None:
            handler.close_connection = True
