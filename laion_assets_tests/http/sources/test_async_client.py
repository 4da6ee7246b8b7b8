"""HTTP/1.1 as servers speak it, over raw sockets: framing, kept connections, read timeouts."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address

import pytest

from laion_assets.http.sources.async_client import AsyncClient
from laion_assets.http.sources.source_policy import SourcePolicy
from laion_assets.http.urls.addresses import Address
from laion_assets.http.urls.resolver import Resolver
from laion_assets.reasons import Rejection


@contextmanager
def server(*connections: Sequence[bytes | None]) -> Iterator[str]:
    """Each connection sends its answers in turn, one a request; None falls silent; the end closes."""
    listener = socket.create_server(("127.0.0.1", 0))
    asked: list[socket.socket] = []

    def serve() -> None:
        for answers in connections:
            accepted, _ = listener.accept()
            asked.append(accepted)
            for answer in answers:
                if not accepted.recv(65536):
                    break
                if answer is None:
                    time.sleep(2)
                    break
                accepted.sendall(answer)
            accepted.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/x.csv"
    listener.close()


def bodies(url: str, times: int = 1, timeout_s: float = 5.0, operator: bool = True) -> list[tuple[int, bytes, bool]]:
    """Status, body and completeness of so many requests after each other."""

    async def read() -> list[tuple[int, bytes, bool]]:
        found = []
        policy = SourcePolicy(operator_urls=(url,) if operator else (), timeout_s=timeout_s, per_host=4)
        async with AsyncClient(policy) as client:
            for _ in range(times):
                async with client.get(url) as response:
                    body = b""
                    while piece := await response.read(7):
                        body += piece
                    found.append((response.status, body, response.complete))
        return found

    return asyncio.run(read())


@pytest.mark.parametrize(
    ("answer", "body", "complete"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", b"abc", False),
        (b"HTTP/1.1 200\r\n\r\nup to the end", b"up to the end", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", b"ab", True),
        (b"HTTP/1.1 103 Early\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na", b"a", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n9;x=y\r\ndefghijkl\r\n0\r\nT: r\r\n\r\n",
         b"abcdefghijkl", True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n1\r\na\r\n0\r\n\r\n", b"a", True),
        (b"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\n", b"", True),
    ],
)  # fmt: skip
def test_framings(answer: bytes, body: bytes, complete: bool) -> None:
    with server([answer]) as url:
        ((_, got, whole),) = bodies(url)
    assert (got, whole) == (body, complete)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabcd",
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/1.1 2 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 500_000,
        b"HTTP/1.1 200 O",
        b"",
    ],
)
def test_malformed_responses_are_rejected(answer: bytes) -> None:
    with server([answer]) as url, pytest.raises((OSError, EOFError, Rejection)):
        bodies(url)


def test_connection_is_reused_and_a_closed_one_replaced() -> None:
    one = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"
    with server([one, one], [one]) as url:
        assert [status for status, _, _ in bodies(url, times=3)] == [200, 200, 200]


def test_connection_close_is_honoured() -> None:
    one = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na"
    with server([one], [one]) as url:
        assert len(bodies(url, times=2)) == 2


@pytest.mark.parametrize("answers", [[None], [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", None]])
def test_read_timeout_ends_a_request(answers: list[bytes | None]) -> None:
    started = time.monotonic()
    with server(answers) as url, pytest.raises(TimeoutError, match="read timeout"):
        bodies(url, timeout_s=0.3)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("url", ["http://", "http:///x", "http://[/", "http://h:99999/", "ftp://h/x", "x.csv"])
def test_invalid_url_is_refused(url: str) -> None:
    with pytest.raises(Rejection, match=r"invalid_url|unsupported_scheme"):
        bodies(url)


def test_connection_goes_to_the_checked_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A DNS answer that changes between check and use has no effect, and the name is not looked up again."""
    answers, asked = [["93.184.216.34"], ["127.0.0.1"]], []

    def lookup(host: str) -> list[Address]:
        asked.append(host)
        return [ip_address(text) for text in answers[min(len(asked), 2) - 1]]

    async def refuse(host: str, port: int, **options: object) -> None:
        connected.append((host, port))
        raise ConnectionRefusedError

    connected: list[tuple[str, int]] = []
    resolver = Resolver(lookup)
    monkeypatch.setattr("laion_assets.http.urls.guard.shared_resolver", lambda: resolver)
    monkeypatch.setattr(asyncio, "open_connection", refuse)
    for _ in range(2):
        with pytest.raises(ConnectionRefusedError):
            bodies("http://rebind.test/x.csv", operator=False)
    assert (connected, asked) == ([("93.184.216.34", 80)] * 2, ["rebind.test"])


def test_hanging_resolver_does_not_delay_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = threading.Event()
    resolver = Resolver(lambda host: ends.wait(20) and [])
    monkeypatch.setattr("laion_assets.http.urls.guard.shared_resolver", lambda: resolver)

    async def read() -> None:
        async with asyncio.timeout(0.2), AsyncClient(SourcePolicy()) as client, client.get("http://slow.test/"):
            pass

    started = time.monotonic()
    with pytest.raises(TimeoutError):
        asyncio.run(read())
    assert time.monotonic() - started < 5
    ends.set()


def test_idle_connections_of_many_hosts_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laion_assets.http.sources.async_client.MAX_IDLE", 3)
    one = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"

    async def read(port: str) -> int:
        async with AsyncClient(SourcePolicy(resolve={"*.test": f"127.0.0.1:{port}"})) as client:
            for number in range(8):
                async with client.get(f"http://h{number}.test/") as response:
                    assert await response.read(9) == b"a"
            return len(client._open)

    with server(*[[one]] * 8) as url:
        assert asyncio.run(read(url.split(":")[2].split("/")[0])) == 3
