"""Random and worst-case input: only our own exceptions, and linear time."""

import asyncio
import contextlib
import gzip
import re
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from laion_assets.errors import SourceError
from laion_assets.http.listings.listing import resolve_link
from laion_assets.http.listings.listing_page import parse_links
from laion_assets.http.messages.content_coding import StreamDecoder, content_coding
from laion_assets.http.messages.dates import parse_date, retry_after_s
from laion_assets.http.messages.framing import chunk_size, content_range, determine_framing
from laion_assets.http.messages.request import request_bytes
from laion_assets.http.messages.response_headers import (
    MAX_HEAD_BYTES,
    ResponseHeaderReader,
    ResponseHeaders,
    parse_headers,
)
from laion_assets.http.messages.validators import range_validator, valid_date, valid_etag
from laion_assets.http.sources.async_connection import Connection, RateWindow, Response, read_plain
from laion_assets.http.urls.target import follow, parse_target
from laion_assets.reasons import Rejection
from laion_assets.stages.raw_csv.sources.url_list import _decode, _extract_path, _split_lines

BOUNDED = settings(
    max_examples=300, deadline=2_000, derandomize=True, suppress_health_check=[HealthCheck.too_slow], database=None
)
"""The same examples each time, some seconds in all; deadline in milliseconds an example."""
URL_PARTS = st.sampled_from(
    ["http:", "https:", "//", "/", "\\", "a.test", "[::1]", "[", "]", "@", ":", ":80", ":0", ":²", "?", "#", "%", "%00",
     "%2e", "..", "\0", "\r\n", "\t", " ", "ß", "℀", "。", "xn--", "127.1", "0x7f", "\ud800", "\xad", "é"]
)  # fmt: skip
URLS = st.lists(URL_PARTS | st.text(max_size=5), max_size=12).map("".join)
HEADER_PARTS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.",
        b" ",
        b"\r\n",
        b"\n",
        b"\r\n\r\n",
        b"\n ",
        b":",
        b"Content-Length: ",
        b"9" * 30,
        b"3",
        b"Transfer-Encoding: ",
        b"chunked",
        b"identity",
        b"gzip",
        b"Content-Encoding: ",
        b"br",
        b"Location: /",
        b"\0",
        b"\r",
        b"ETag: ",
        b'"x"',
        b"Retry-After: ",
        b"Last-Modified: ",
        b"Thu, 01 Jan 2026 00:00:00 ",
        b"GMT",
        b"+9999",
        b"103",
        b"Content-Range: bytes ",
        b"0-1/2",
        b"-",
        b",",
        b"abc",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"\xff",
        b"\xb2",
    ]
)
ANSWERS = st.lists(HEADER_PARTS | st.binary(max_size=4), max_size=25).map(b"".join)
PAGE_PARTS = st.sampled_from(
    [
        "<a ",
        "<A",
        "href",
        "=",
        '"',
        "'",
        ">",
        "</a>",
        "<!--",
        "-->",
        "<list>",
        "<file",
        " size=",
        "1",
        "9" * 30,
        "<",
        "/",
        "&amp;",
        "&#",
        "&#x",
        "9" * 20,
        ";",
        "[",
        "]",
        "{",
        "}",
        '"name":',
        '"a.csv"',
        ",",
        "null",
        "\\ud800",
        "cb(",
        ")",
        "../",
        "http://",
        "?",
        "03-Mar-2021 09:15 ",
        "\ufeff",
        "\0",
        "\n",
        " ",
    ]
)
PAGES = st.lists(PAGE_PARTS | st.text(max_size=4), max_size=40).map("".join)
KINDS = st.sampled_from(["text/html", "application/json", "text/xml", "application/javascript", "", ";"])


@BOUNDED
@given(URLS, URLS)
def test_any_url_is_a_valid_request_or_refused(url: str, location: str) -> None:
    for text in (url, f"http://a.test/{url}", f"http://{url}"):
        try:
            target = parse_target(text)
        except Rejection:
            continue
        sent = request_bytes(target, {})
        assert sent.count(b"\r\n") == 3
        assert sent.endswith(b"\r\n\r\n")
        try:
            request_bytes(follow(target, location.encode("utf-8", "replace").decode("latin-1")), {})
        except Rejection:
            continue


@BOUNDED
@given(ANSWERS, st.integers(1, 7))
def test_headers_are_parsed_the_same_however_they_are_split(sent: bytes, step: int) -> None:
    def read(pieces: list[bytes]) -> Any:
        reader, buffer = ResponseHeaderReader(), bytearray()
        for piece in pieces:
            buffer += piece
            try:
                head = reader.take(buffer)
            except Rejection as rejection:
                return rejection.reason
            if head is not None:
                return head.status, head.headers
        return None

    whole = read([b"HTTP/1.1 " + sent])
    start = b"HTTP/1.1 " + sent
    assert read([start[at : at + step] for at in range(0, len(start), step)]) == whole
    if isinstance(whole, tuple):
        assert not any(sign in name + value for name, value in whole[1] for sign in "\r\n\0")


@BOUNDED
@given(ANSWERS)
def test_a_response_is_read_or_refused(sent: bytes) -> None:
    """Everything that is done with a response, by the event-loop client: framing, decoding, dates, validators."""

    async def read() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(b"HTTP/1.1 200 OK\r\n" + sent)
        reader.feed_eof()
        connection = Connection(reader, None)  # type: ignore[arg-type]
        try:
            head = await connection.read_head()
            for value in (valid_etag(head.get("etag")), valid_date(head.get("last-modified")), range_validator(head)):
                assert not any(sign < " " or sign == "\x7f" for sign in value)
            content_range(head), retry_after_s(head)
            response = Response(connection, "http://a.test/", "http://a.test:80", False, head, RateWindow(0, 1.0))
            assert len(await read_plain(response, 10_000)) <= 10_000
        except (Rejection, EOFError):
            pass

    asyncio.run(read())


@BOUNDED
@given(st.text(max_size=40) | ANSWERS.map(lambda raw: raw.decode("latin-1")))
def test_dates_and_sizes_are_parsed_or_rejected(text: str) -> None:
    parse_date(text)
    retry_after_s(ResponseHeaders(503, (("retry-after", text), ("date", text[::-1]))))
    content_range(ResponseHeaders(206, (("content-range", text),)))
    valid_etag(text), valid_date(text)
    for act in (
        lambda: determine_framing(ResponseHeaders(200, (("content-length", text),))),
        lambda: content_coding(ResponseHeaders(200, (("content-encoding", text),))),
        lambda: chunk_size(text.encode("utf-8", "replace")),
    ):
        try:
            act()
        except Rejection:
            continue


@BOUNDED
@given(st.sampled_from(["gzip", "deflate", "br"]), st.binary(max_size=600), st.integers(0, 40), st.integers(0, 255))
def test_damaged_bodies_are_decoded_or_refused(coding: str, body: bytes, place: int, value: int) -> None:
    packed = bytearray(gzip.compress(body, mtime=0) if coding == "gzip" else zlib.compress(body))
    packed[place % len(packed)] = value
    decoder = StreamDecoder(coding)
    try:
        for start in range(0, len(packed), 17):
            list(decoder.feed(bytes(packed[start : start + 17])))
        list(decoder.end())
    except Rejection:
        pass


@BOUNDED
@given(PAGES, KINDS)
def test_a_page_has_links_or_is_refused_by_name(page: str, kind: str) -> None:
    try:
        for entry in parse_links(page, kind, "http://a.test/"):
            assert -1 <= entry.size < 1 << 63
            resolve_link("http://a.test/", "http://a.test/x/", entry.href)
    except SourceError:
        pass


@BOUNDED
@given(st.lists(URLS, max_size=5), st.sampled_from(["\n", "\r\n", "\r"]), st.integers(1, 9), st.booleans())
def test_url_list_is_parsed_the_same_however_it_is_split(urls: list[str], end: str, step: int, packed: bool) -> None:
    content = end.join(urls).encode("utf-8", "replace")
    pieces = list(_decode(gzip.compress(content), "x")) if packed else [content]
    whole = b"".join(pieces)
    lines = list(_split_lines((whole[at : at + step] for at in range(0, len(whole), step)), "x"))
    expected = whole.removeprefix(b"\xef\xbb\xbf").splitlines()
    assert [line for _, line in lines] == [line.decode(errors="replace") for line in expected]
    for _, line in lines:
        try:
            _extract_path(line, re.compile(r"\.csv"))
        except SourceError:
            continue


def listing(page: str, kind: str = "text/html") -> None:
    with contextlib.suppress(SourceError):
        for _ in parse_links(page, kind, "http://a.test/"):
            pass


def target(url: str) -> None:
    with contextlib.suppress(Rejection):
        parse_target(url)


GROWING: dict[str, Callable[[int], Any]] = {
    "open tags": lambda n: listing("<a " * n),
    "open hrefs": lambda n: listing("<a href=x " * n),
    "attributes": lambda n: listing("<a " + "href " * n),
    "equal signs": lambda n: listing("<a " + "= " * n),
    "quotes": lambda n: listing("<a x=\" y='" * n),
    "comments": lambda n: listing("<!--" * n),
    "closed comments": lambda n: listing("<!--><a href=x>-->" * n),
    "blanks": lambda n: listing(("<a href=x>y</a>" + " " * 300) * (n // 50)),
    "blanks in a tag": lambda n: listing("<a" + " " * n * 4),
    "text": lambda n: listing("<a href=x>" + "y" * n * 4),
    "dates": lambda n: listing("<a href=x>y</a> 03-Mar-2021 09:15   1" * n),
    "xml": lambda n: listing("<list>" + "<file " * n, "text/xml"),
    "xml names": lambda n: listing("<list>" + "<file>a" * n, "text/xml"),
    "entities": lambda n: listing("<a href='" + "&amp;&#" * n + "'>"),
    "json": lambda n: listing("[" * n, "application/json"),
    "callback": lambda n: listing("a" * n + "([", ""),
    "folded header": lambda n: parse_headers(b"HTTP/1.1 200 OK\r\nX: y\r\n" + b" z\r\n" * n + b"\r\n"),
    "headers": lambda n: parse_headers(b"HTTP/1.1 200 OK\r\n" + b"X:y\r\n" * n + b"\r\n"),
    "path": lambda n: parse_target("http://a.test/" + "é %" * n),
    "labels": lambda n: target("http://" + "ü." * n),
    "digits": lambda n: target("http://a.test:" + "9" * n),
    "location": lambda n: follow(parse_target("http://a.test/"), "../" * n),
    "tag": lambda n: valid_etag('"' + "x" * n),
    "date": lambda n: parse_date("Thu, " * n),
}


@pytest.mark.parametrize("kind", GROWING)
def test_the_worst_input_takes_linear_time(kind: str) -> None:
    """Four times the input: at most ten times the CPU, or a negligible time. A quadratic scan takes sixteen times."""

    def seconds(size: int) -> float:
        started = time.thread_time()
        GROWING[kind](size)
        return time.thread_time() - started

    size = 20_000
    small, large = min(seconds(size) for _ in range(2)), min(seconds(4 * size) for _ in range(2))
    assert large < max(10 * small, 0.1)
    assert large < 2.0


def test_headers_received_byte_by_byte_are_scanned_once() -> None:
    reader, buffer = ResponseHeaderReader(), bytearray(b"HTTP/1.1 200 OK\r\nX: ")
    started = time.thread_time()
    for _ in range(MAX_HEAD_BYTES - 100):
        buffer += b"y"
        assert reader.take(buffer) is None
    assert time.thread_time() - started < 2.0
