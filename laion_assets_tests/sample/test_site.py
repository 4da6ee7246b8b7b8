"""The embedded web site over real HTTP: listing, images and faults."""

import hashlib
import http.client
import io
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from laion_assets.sample.answers import OVERSIZED_BYTES
from laion_assets.sample.crawl import build_crawl
from laion_assets.sample.faults import FAULTS
from laion_assets.sample.originals import FORMATS, jpeg
from laion_assets.sample.pages import Page, crawl_pages
from laion_assets.sample.running import RunningSite, running_site
from laion_assets.sample.scenes import render

PAGES = crawl_pages()
BY_KIND = {page.kind: page for page in reversed(PAGES)}


@pytest.fixture(scope="module")
def site() -> Iterator[RunningSite]:
    with running_site() as running:
        yield running


def get(site: RunningSite, url: str, timeout: float = 5, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """One GET, no redirect followed: status, headers in lower case, body."""
    parts = urlsplit(url.replace(" ", "%20"))
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=timeout)
    try:
        connection.request("GET", parts.path, headers={"Host": parts.netloc, **headers})
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def talk(site: RunningSite, page: Page, seconds: float) -> bytes:
    """Return the bytes received within some seconds after a request, until the end or a reset."""
    parts = urlsplit(page.url)
    received, end = b"", time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", site.port)) as connection:
        connection.sendall(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        while (left := end - time.monotonic()) > 0:
            connection.settimeout(left)
            try:
                block = connection.recv(65_536)
            except TimeoutError:
                break
            if not block:
                return received + b"<end>"
            received += block
    return received


def test_the_listing_is_nginx_like_and_leads_to_every_file(site: RunningSite) -> None:
    crawl = build_crawl()
    status, headers, body = get(site, site.source)
    assert (status, headers["content-type"]) == (200, "text/html")
    assert body.startswith(b"<html>\r\n<head><title>Index of /laion400m/</title></head>")
    assert b'<a href="README.txt">' in body
    for file in crawl.files:
        folder, name = file.path.split("/")
        assert f'<a href="{folder}/">'.encode() in body
        assert f'<a href="{name}">'.encode() in get(site, f"{site.source}{folder}/")[2]
        status, headers, content = get(site, site.source + file.path)
        assert (status, content) == (200, file.content)
        assert int(headers["content-length"]) == len(file.content)


def test_ranges_and_conditional_requests_are_answered(site: RunningSite) -> None:
    file = build_crawl().files[0]
    url = site.source + file.path
    status, headers, body = get(site, url, Range="bytes=10-19")
    assert (status, body) == (206, file.content[10:20])
    assert headers["content-range"] == f"bytes 10-19/{len(file.content)}"
    assert get(site, url, Range="bytes=1000-")[2] == file.content[1000:]
    assert get(site, url, Range="bytes=-7")[2] == file.content[-7:]
    assert get(site, url, Range="bytes=99999999-")[0] == 416
    assert get(site, url, Range="bytes=5-", **{"If-Range": '"another"'})[0] == 200
    assert get(site, url, Range="bytes=5-", **{"If-Range": headers["etag"]})[0] == 206
    assert get(site, url, **{"If-None-Match": headers["etag"]})[0] == 304
    assert headers["last-modified"].endswith("GMT")


def test_unknown_hosts_and_paths_are_not_found(site: RunningSite) -> None:
    for url in (
        "http://photos-99.test/albums/00/000001.jpg",
        "http://example.test/albums/00/000001.jpg",
        "http://photos-01.test/albums/00/999999.jpg",
        "http://photos-01.test/",
        "http://crawl.test/",
        "http://crawl.test/laion400m/nothing.csv",
        "http://crawl.test/laion400m/2021-01",
    ):
        assert get(site, url)[0] == 404


@pytest.mark.parametrize("form", FORMATS)
def test_images_are_served_as_drawn(site: RunningSite, form: str) -> None:
    page = BY_KIND[form]
    status, headers, body = get(site, page.url)
    assert (status, headers["content-type"]) == (200, FORMATS[form].media_type)
    assert body == FORMATS[form].encode(render(page.scene, *page.size))
    with Image.open(io.BytesIO(body)) as image:
        image.load()


def test_urls_with_spaces_are_served(site: RunningSite) -> None:
    spaced = [page for page in PAGES if " " in page.url]
    assert len(spaced) >= 8
    assert get(site, spaced[0].url)[0] == 200


STATUSES = {
    "not_found": 404,
    "gone": 410,
    "forbidden": 403,
    "legal": 451,
    "rate_limited": 429,
    "server_error": 500,
    "unavailable": 503,
    "no_content": 204,
    "redirect_nowhere": 301,
}


@pytest.mark.parametrize(("kind", "status"), STATUSES.items())
def test_fault_pages_have_their_http_status(site: RunningSite, kind: str, status: int) -> None:
    answered, headers, _ = get(site, BY_KIND[kind].url)
    assert answered == status
    assert "location" not in headers
    assert headers.get("retry-after") == ("1" if status in (429, 503) else None)


def test_redirects_lead_where_declared(site: RunningSite) -> None:
    def location(kind: str) -> str:
        status, headers, _ = get(site, BY_KIND[kind].url)
        assert status == 302
        return headers["location"]

    moved = location("redirect")
    assert urlsplit(moved).netloc != urlsplit(BY_KIND["redirect"].url).netloc
    page = BY_KIND["redirect"]
    assert get(site, moved)[2] == jpeg(render(page.scene, *page.size))
    assert location("redirect_loop") == BY_KIND["redirect_loop"].url
    assert location("redirect_private").startswith("http://10.0.0.1/")
    assert location("redirect_file") == "file:///etc/passwd"
    host, hop, hops = urlsplit(BY_KIND["redirect_chain"].url).netloc, location("redirect_chain"), 1
    while True:
        status, headers, body = get(site, f"http://{host}{hop}")
        if status == 200:
            break
        hop, hops = headers["location"], hops + 1
    assert hops == 40
    assert body.startswith(b"\xff\xd8")


OPT_OUTS = {
    "robots_noai": ("x-robots-tag", "noai"),
    "robots_noimageai": ("x-robots-tag", "noindex, noimageai"),
    "robots_other_bot": ("x-robots-tag", "somebot: noai"),
    "robots_expired": ("x-robots-tag", "unavailable_after: 25 Jun 2010 15:00:00 GMT"),
    "robots_until": ("x-robots-tag", "unavailable_after: 25 Jun 2099 15:00:00 GMT"),
    "tdm_reserved": ("tdm-reservation", "1"),
}


@pytest.mark.parametrize("kind", OPT_OUTS)
def test_opt_out_headers_are_sent_with_the_image(site: RunningSite, kind: str) -> None:
    status, headers, body = get(site, BY_KIND[kind].url)
    name, value = OPT_OUTS[kind]
    assert (status, headers[name]) == (200, value)
    assert body.startswith(b"\xff\xd8")


def test_bodies_of_broken_images_are_as_declared(site: RunningSite) -> None:
    status, headers, body = get(site, BY_KIND["html"].url)
    assert (status, headers["content-type"]) == (200, "image/jpeg")
    assert body.startswith(b"<!DOCTYPE html>")
    assert get(site, BY_KIND["svg"].url)[1]["content-type"] == "image/svg+xml"
    assert get(site, BY_KIND["tiff"].url)[2].startswith(b"II*\0")
    page = BY_KIND["truncated_jpeg"]
    whole = jpeg(render(page.scene, *page.size))
    assert get(site, page.url)[2] == whole[: int(len(whole) * 0.6)]
    page = BY_KIND["corrupt"]
    whole, body = jpeg(render(page.scene, *page.size)), get(site, page.url)[2]
    assert len(body) == len(whole)
    assert body[604:] == whole[604:]
    with Image.open(io.BytesIO(get(site, BY_KIND["one_pixel"].url)[2])) as image:
        assert image.size == (1, 1)
    with Image.open(io.BytesIO(get(site, BY_KIND["sliver"].url)[2])) as image:
        assert image.size == (4_000, 2)
    assert len(get(site, BY_KIND["bomb"].url)[2]) < 200_000


def test_oversized_bodies_are_announced_or_chunked(site: RunningSite) -> None:
    announced = talk(site, BY_KIND["oversized_announced"], 0.5)
    assert f"Content-Length: {OVERSIZED_BYTES}\r\n".encode() in announced
    _, headers, body = get(site, BY_KIND["oversized_chunked"].url)
    assert headers["transfer-encoding"] == "chunked"
    assert "content-length" not in headers
    assert len(body) > 10_000_000


def test_truncated_responses_end_early(site: RunningSite) -> None:
    with pytest.raises(http.client.IncompleteRead):
        get(site, BY_KIND["short_body"].url)
    with pytest.raises(ConnectionResetError):
        get(site, BY_KIND["reset"].url)
    with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
        get(site, BY_KIND["reset_mid_body"].url)


def test_slow_faults_do_not_end(site: RunningSite) -> None:
    kinds = [fault.kind for fault in FAULTS if fault.slow]
    with ThreadPoolExecutor(len(kinds)) as pool:
        received = dict(zip(kinds, pool.map(lambda kind: talk(site, BY_KIND[kind], 2.5), kinds), strict=True))
    assert all(not body.endswith(b"<end>") for body in received.values())
    assert received["silence"] == b""
    head, _, body = received["slow_body"].partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert 1 <= len(body) <= 4
    assert b"\r\n\r\n" not in received["endless_headers"]
    assert received["endless_headers"].count(b"X-Filler") >= 5
    assert 100_000 < len(received["endless_body"]) < 3_000_000


def test_tls_handshake_fails(site: RunningSite) -> None:
    with socket.create_connection(("127.0.0.1", site.port), timeout=5) as connection:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ssl.create_default_context().wrap_socket(connection, server_hostname="photos-01.test")


def test_other_methods_and_long_heads_are_refused(site: RunningSite) -> None:
    for request, answer in (
        (b"POST / HTTP/1.1\r\nHost: crawl.test\r\nContent-Length: 5\r\n\r\nhello", b"HTTP/1.1 405"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000, b""),
        (b"nonsense\r\n\r\n", b""),
    ):
        with socket.create_connection(("127.0.0.1", site.port), timeout=5) as connection:
            received = b""
            try:
                connection.sendall(request)
                received = connection.recv(100)
            except ConnectionError:
                pass
            assert received[: len(answer)] == answer


def test_many_connections_are_kept_alive(site: RunningSite) -> None:
    pages = [page for page in PAGES if page.kind == "jpeg" and " " not in page.url][:240]

    def fetch(some: list[Page]) -> list[bytes]:
        connection, bodies = http.client.HTTPConnection("127.0.0.1", site.port, timeout=20), []
        connection.connect()
        mine = connection.sock
        for page in some:
            parts = urlsplit(page.url)
            connection.request("GET", parts.path, headers={"Host": parts.netloc})
            bodies.append(connection.getresponse().read())
            assert connection.sock is mine
        connection.close()
        return bodies

    with ThreadPoolExecutor(48) as pool:
        bodies = [body for some in pool.map(fetch, np.array_split(np.array(pages, object), 48)) for body in some]
    assert all(body.startswith(b"\xff\xd8") for body in bodies)


def test_another_process_serves_the_same_bytes(site: RunningSite) -> None:
    pages = [page for page in PAGES[:400] if page.expected == "success" and page.kind != "redirect"][:60]

    def digest(running: RunningSite) -> str:
        return hashlib.sha256(b"".join(get(running, page.url)[2] for page in pages)).hexdigest()

    with running_site(pages=400) as other:
        assert digest(other) == digest(site)
