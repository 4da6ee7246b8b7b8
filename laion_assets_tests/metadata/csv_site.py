"""A real HTTP server with a directory listing, ranges, validators and faults on demand."""

import re
import threading
from dataclasses import dataclass, field
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote, unquote


@dataclass
class Request:
    """What a client asked."""

    path: str
    host: str
    range: str | None
    status: int = 0
    sent: int = 0


@dataclass
class CsvSite:
    """`files` by path; `cuts` cuts its next answers after so many bytes; `statuses` overrides answers, in order."""

    files: dict[str, bytes] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    extra_links: list[str] = field(default_factory=list)
    validators: bool = True
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> "CsvSite":
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site._answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def address(self) -> str:
        """`127.0.0.1:port`."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        """The listing's URL."""
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
        body = self.files[name]
        etag = f'"{md5(body).hexdigest()}"'
        headers = {"ETag": etag} if self.validators else {}
        if self.validators and handler.headers.get("If-None-Match") == etag:
            self._send(handler, request, 304, headers, b"")
            return
        start, status = 0, 200
        if request.range and handler.headers.get("If-Range") == etag:
            start, status = int(request.range.removeprefix("bytes=").split("-")[0]), 206
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        cut = self.cuts[name].pop(0) if self.cuts.get(name) else None
        self._send(handler, request, status, headers, body[start:], cut)

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
            handler.wfile.write(sent)
            handler.wfile.flush()
            request.sent = len(sent)
        if cut is not None:
            handler.close_connection = True
