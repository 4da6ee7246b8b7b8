"""The web site of the sample on loopback: `python -m laion_assets.sample.site --port 0`.

It is one thread with asyncio streams, because an HTTP library would refuse to send most faults of the real web. The
Host header selects a virtual host: `crawl.test` lists the CSVs, `photos-NN.test` serves images. The site binds only
127.0.0.1 and prints one JSON line with its port when it is ready. It ends when its stdin ends, when its parent ends, or
on SIGTERM, so it never runs longer than its parent.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from laion_assets.sample.answers import (
    CHUNKED_OVERSIZED_BYTES,
    OVERSIZED_BYTES,
    Answer,
    Delivery,
    answer,
)
from laion_assets.sample.crawl import Crawl, build_crawl
from laion_assets.sample.pages import PAGES

MAX_CONNECTIONS = 1_024
"""Further connections are closed immediately."""
MAX_HEAD_BYTES = 32_768
IDLE_TIMEOUT_S = 30.0
"""Longest wait for the next request on a connection."""
HOLD_S = 60.0
"""Longest time that a fault holds a connection."""
_BLOCK = bytes(65_536)


def main() -> None:
    """Serve until stdin ends, the parent ends, or SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m laion_assets.sample.site",
        description='Serve the sample crawl on 127.0.0.1. Prints {"port": N} when ready. Ends when its stdin ends.',
    )
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default 0: a free port)")
    parser.add_argument(
        "--pages", type=int, default=PAGES, help="number of pages of the crawl (default %(default)s: all)"
    )
    options = parser.parse_args()
    _end_with_parent()
    asyncio.run(_serve(options.port, build_crawl(options.pages)))


async def _serve(port: int, crawl: Crawl) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, os._exit, 0)
    site = Site(crawl)
    server = await asyncio.start_server(site.converse, "127.0.0.1", port, limit=MAX_HEAD_BYTES, backlog=1_024)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    async with server:
        await server.serve_forever()


class Site:
    """The server of one crawl, with limits on connections, request heads and buffers."""

    def __init__(self, crawl: Crawl):
        self.crawl = crawl
        self.connections = 0

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests on one connection until it ends, idles or a fault has made it unusable."""
        if self.connections >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        self.connections += 1
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass
        finally:
            self.connections -= 1
            with contextlib.suppress(ConnectionError, RuntimeError):
                writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request. Returns whether another may follow."""
        first = await asyncio.wait_for(reader.readexactly(1), IDLE_TIMEOUT_S)
        if not first.isalpha():
            # A TLS handshake starts with 0x16 and has no empty line to wait for.
            return False
        head = first + await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), IDLE_TIMEOUT_S)
        request = _parse_request(head)
        if request.method not in ("GET", "HEAD") or request.headers.get("content-length", "0") != "0":
            refusal = Answer(405, {"Allow": "GET, HEAD"})
            writer.write(_head(refusal, close=True))
            await writer.drain()
            return False
        host = request.headers.get("host", "").rsplit(":", 1)[0].lower()
        reply = answer(self.crawl, host, request.target, request.headers)
        keeps_alive = request.version == "HTTP/1.1" and request.headers.get("connection", "").lower() != "close"
        if reply.delivery is Delivery.WHOLE:
            writer.write(_head(reply, close=not keeps_alive) + (b"" if request.method == "HEAD" else reply.body))
            await writer.drain()
            return keeps_alive
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(_DELIVERIES[reply.delivery](reply, reader, writer), HOLD_S)
        return False


async def _send_slowly(reply: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_head(reply, close=True))
    for place in range(len(reply.body)):
        writer.write(reply.body[place : place + 1])
        await writer.drain()
        await asyncio.sleep(1)


async def _send_endless_body(reply: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_head(reply, close=True, length="chunked") + _chunk(reply.body))
    while True:
        writer.write(_chunk(_BLOCK[:15_000]))
        await writer.drain()
        await asyncio.sleep(0.05)


async def _send_endless_headers(reply: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    for number in range(100_000):
        writer.write(b"X-Filler-%d: more to come\r\n" % number)
        await writer.drain()
        await asyncio.sleep(0.2)


async def _send_nothing(reply: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)


async def _send_short_body(reply: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_head(reply, close=True) + reply.body[: len(reply.body) // 2])
    await writer.drain()


async def _reset_connection(reply: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _reset_mid_body(reply: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await _send_short_body(reply, reader, writer)
    await asyncio.sleep(0.1)
    await _reset_connection(reply, reader, writer)


async def _send_partial_body(reply: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_head(reply, close=True, length=str(OVERSIZED_BYTES)))
    for _ in range(OVERSIZED_BYTES // len(_BLOCK)):
        writer.write(_BLOCK)
        await writer.drain()


async def _send_chunked(reply: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(_head(reply, close=True, length="chunked"))
    for _ in range(CHUNKED_OVERSIZED_BYTES // len(_BLOCK) + 1):
        writer.write(_chunk(_BLOCK))
        await writer.drain()
    writer.write(b"0\r\n\r\n")
    await writer.drain()


_DELIVERIES: Mapping[Delivery, Callable[[Answer, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]] = {
    Delivery.SLOW: _send_slowly,
    Delivery.ENDLESS: _send_endless_body,
    Delivery.ENDLESS_HEADERS: _send_endless_headers,
    Delivery.SILENT: _send_nothing,
    Delivery.SHORT: _send_short_body,
    Delivery.RESET: _reset_connection,
    Delivery.RESET_MID_BODY: _reset_mid_body,
    Delivery.ANNOUNCED: _send_partial_body,
    Delivery.CHUNKED: _send_chunked,
}


@dataclass(frozen=True)
class Request:
    """The head of a request. Header names are in lower case."""

    method: str
    target: str
    version: str
    headers: dict[str, str]


def _parse_request(head: bytes) -> Request:
    """Parse the head of a request. Raises ValueError if it is malformed."""
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, version = first.split(" ")
    headers = {}
    for line in lines:
        name, found, value = line.partition(":")
        if found:
            headers[name.strip().lower()] = value.strip()
    return Request(method, target, version, headers)


def _head(reply: Answer, close: bool, length: str | None = None) -> bytes:
    """Write the status line and headers. No Date header, so that equal requests get equal bytes."""
    lines = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in reply.headers.items()]
    if length == "chunked":
        lines.append("Transfer-Encoding: chunked")
    elif reply.status not in (204, 304):
        lines.append(f"Content-Length: {len(reply.body) if length is None else length}")
    lines.append("Connection: close" if close else "Connection: keep-alive")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _chunk(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


def _end_with_parent() -> None:
    """End the process when stdin ends or the parent changes. After kill -9, a sibling may hold the pipe open."""
    parent = os.getppid()

    def watch_stdin() -> None:
        with contextlib.suppress(OSError):
            while os.read(sys.stdin.fileno(), 4_096):
                pass
        os._exit(0)

    def watch_parent() -> None:
        gone = threading.Event()
        while os.getppid() == parent:
            gone.wait(0.5)
        os._exit(0)

    for watch in (watch_stdin, watch_parent):
        threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main()
