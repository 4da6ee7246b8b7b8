"""A raw-socket web site on loopback: each path has a function that talks to the connection as it likes."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

Talk = Callable[[socket.socket], None]


def answer(body: bytes, status: str = "200 OK", *headers: str, length: int | None = None) -> Talk:
    """An ordinary answer with Content-Length (`length` if given), and the connection's end."""

    def talk(sock: socket.socket) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
        sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    return talk


def raw(*pieces: bytes) -> Talk:
    """These bytes and nothing else."""
    return lambda sock: sock.sendall(b"".join(pieces))


class Site:
    """The running site: `pages` by path, `seen` the paths asked for, in order, `port` and `resolve`."""

    def __init__(self, listener: socket.socket, pages: dict[str, Talk], context: ssl.SSLContext | None) -> None:
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
        with contextlib.suppress(OSError), sock:
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
            request = b""
            while b"\r\n\r\n" not in request:
                piece = sock.recv(65536)
                if not piece:
                    return
                request += piece
            path = request.split(b" ", 2)[1].decode()
            self.seen.append(path)
            self.requests.append(request)
            page = self.pages.get(path) or self.pages.get(path.partition("?")[0])
            (page or answer(b"", "404 Not Found"))(sock)
            sock.close()


@contextlib.contextmanager
def running(pages: dict[str, Talk], context: ssl.SSLContext | None = None) -> Iterator[Site]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    site = Site(listener, pages, context)
    try:
        yield site
    finally:
        site.closing.set()
        listener.close()
