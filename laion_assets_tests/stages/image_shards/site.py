"""A web site on loopback with raw sockets: each path has a function that writes to the connection."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

Talk = Callable[[socket.socket], None]


def answer(body: bytes, status: str = "200 OK", *headers: str, length: int | None = None) -> Talk:
    """Return a normal response with Content-Length (or `length`)."""

    def talk(sock: socket.socket) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
        sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    return talk


def raw(*pieces: bytes) -> Talk:
    """Return a response of exactly these bytes."""
    return lambda sock: sock.sendall(b"".join(pieces))


class Site:
    """A running site. `pages` are by path, `seen` are the requested paths in order.

    With `stays` a connection accepts further requests until a page or the client closes it. `connections` counts the
    accepted ones, `resumed` those that reused a TLS session, `open` those that are open, `most_open` their maximum.
    """

    def __init__(
        self, listener: socket.socket, pages: dict[str, Talk], context: ssl.SSLContext | None, stays: bool = False
    ) -> None:
        self.stays = stays
        self.connections = 0
        self.resumed = 0
        self.open = 0
        self.most_open = 0
        self._lock = threading.Lock()
        self.pages = pages
        self.seen: list[str] = []
        self.requests: list[bytes] = []
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._context = context
        self.closing = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def resolve(self) -> dict[str, str]:
        return {"*.test": f"127.0.0.1:{self.port}"}

    def url(self, path: str, host: str = "photos.test", scheme: str = "http") -> str:
        return f"{scheme}://{host}{path}"

    def _accept(self) -> None:
        while not self.closing.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with self._lock:
            self.connections += 1
            self.open += 1
            self.most_open = max(self.most_open, self.open)
        try:
            with contextlib.suppress(OSError), sock:
                if self._context is not None:
                    sock = self._context.wrap_socket(sock, server_side=True)
                    self.resumed += sock.session_reused
                while self._exchange(sock) and self.stays:
                    pass
                sock.close()
        finally:
            with self._lock:
                self.open -= 1

    def _exchange(self, sock: socket.socket) -> bool:
        request = b""
        while b"\r\n\r\n" not in request:
            piece = sock.recv(65536)
            if not piece:
                return False
            request += piece
        path = request.split(b" ", 2)[1].decode()
        self.seen.append(path)
        self.requests.append(request)
        page = self.pages.get(path) or self.pages.get(path.partition("?")[0])
        (page or answer(b"", "404 Not Found"))(sock)
        return sock.fileno() >= 0


@contextlib.contextmanager
def running(
    pages: dict[str, Talk], context: ssl.SSLContext | None = None, stays: bool = False, host: str = "127.0.0.1"
) -> Iterator[Site]:
    listener = socket.create_server((host, 0), backlog=256)
    site = Site(listener, pages, context, stays)
    try:
        yield site
    finally:
        site.closing.set()
        listener.close()
