"""Hostile requests are refused quickly, and the service keeps answering."""

import base64
import contextlib
import json
import select
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.fetch_policy import FetchPolicy
from laion_assets.search.queries import query_images
from laion_assets.server.api.answers import to_json
from laion_assets.server.app import LARGE_BODIES
from laion_assets.server.protection.limits import OVERHEAD_BYTES
from laion_assets_tests.server.running import Client, running_service
from laion_assets_tests.stages.clip_embeddings.small_dataset import built_root, make_jpeg, small_dataset

IDLE_S, DEADLINE_S = 0.6, 2.0


def strict_dataset() -> Dataset:
    dataset = small_dataset(built_root())
    limits = replace(dataset.search, idle_s=IDLE_S, deadline_s=DEADLINE_S, max_image_bytes=200_000, max_connections=300)
    return replace(dataset, search=limits)


@pytest.fixture(scope="module")
def strict() -> Iterator[Client]:
    """A service with short time limits and small bodies."""
    with running_service(strict_dataset()) as running:
        yield running


def connect(client: Client) -> socket.socket:
    return socket.create_connection(("127.0.0.1", client.port), timeout=20)


def read_all(connection: socket.socket) -> bytes:
    """What the service sends until it closes the connection."""
    parts = []
    try:
        while part := connection.recv(65_536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


HEAD = b"POST /api/search HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def test_body_announced_as_1_gb_is_refused_without_reading_it(strict: Client) -> None:
    with connect(strict) as connection:
        connection.sendall(HEAD + b"Content-Length: 1000000000\r\n\r\n")
        assert read_all(connection).startswith(b"HTTP/1.1 413 ")


def test_streamed_body_of_1_gb_is_refused_after_its_limit(strict: Client) -> None:
    chunk = b"100000\r\n" + b"a" * 0x100000 + b"\r\n"
    with connect(strict) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        sent = 0
        try:
            while sent < 1_000:
                connection.sendall(chunk)
                sent += 1
        except OSError:
            pass
        assert sent < 100  # MB: those in the buffers of the system
    assert strict.search("dog").status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"dataset":"small","terms":' + b"[" * 900 + b"]" * 900 + b"}",
        b"[" + b"[]," * 200_000 + b"[]]",
        b'{"dataset":"small","k":' + b"9" * 50_000 + b"}",
        b'{"dataset":"small","k":NaN}',
        b"\xff\xfe",
        b"",
        b"[]",
        b'"text"',
    ],
    ids=[
        "deep list",
        "deep object",
        "deep terms",
        "many lists",
        "huge number",
        "NaN",
        "no UTF-8",
        "empty",
        "list",
        "text",
    ],
)
def test_hostile_json_is_refused(strict: Client, body: bytes) -> None:
    started = time.monotonic()
    for path in ("/api/search", "/api/export", "/knn-service", "/metadata", "/api/report"):
        answer = strict.send("POST", path, body, {"Content-Type": "application/json"})
        assert 400 <= answer.status < 500, path
        assert answer.code
    assert time.monotonic() - started < 5


def png_header(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000_000))
    chunks = ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    parts = [struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize(
    "image",
    [
        png_header(60_000, 60_000),
        png_header(2_000_000_000, 1),
        b"%!PS-Adobe",
        b"<svg/>",
        make_jpeg(1)[:300],
        b"\0" * 99,
    ],
    ids=["3.6 gigapixels", "long side", "PostScript", "SVG", "truncated", "zeros"],
)
def test_hostile_image_is_refused_by_the_decoder(strict: Client, image: bytes) -> None:
    encoded = base64.b64encode(image).decode()
    assert strict.search({"image": encoded}).code == "invalid_image"
    body = {"image": encoded, "modality": "image", "num_images": 1, "indice_name": "small"}
    assert strict.post("/knn-service", body).code == "invalid_image"


def test_image_file_over_its_limit_is_refused(strict: Client) -> None:
    assert strict.search({"image": base64.b64encode(bytes(200_001)).decode()}).code == "image_too_large"


@pytest.mark.parametrize(
    "path",
    [
        "/images/small/0/../../etc/passwd",
        "/images/small/0/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/images/..%2f..%2fsmall/0/" + "0" * 32 + ".jpg",
        "/images/small/-1/" + "0" * 32 + ".jpg",
        "/images/small/99999999999999999999999/" + "0" * 32 + ".jpg",
        "/images/small/0/" + "0" * 32 + ".jpg",
        "/images/small/0/" + "0" * 32 + ".html",
        "/page/../app.py",
        "/page/%2e%2e/app.py",
        "/page/..%5capp.py",
        "/clip-front/../../clip_retrieval/__init__.py",
        "/clip-front/%2e%2e/%2e%2e/clip_retrieval/__init__.py",
        "/page//etc/passwd",
        "/images/small/0/%00.jpg",
    ],
)
def test_path_traversal_finds_nothing(strict: Client, path: str) -> None:
    with connect(strict) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert read_all(connection).split(b" ", 2)[1] in (b"404", b"400")


def test_image_of_a_hidden_row_is_not_found_whatever_asks(strict: Client) -> None:
    hidden = next(row for row in range(70) if strict.get(f"/api/results/small/{row}").status == 404)
    version = strict.service.searches["small"].current.version
    uid = version.metadata.rows([hidden])[0]["uid"]
    assert strict.get(f"/images/small/{hidden}/{uid}.jpg").status == 404
    assert strict.search({"id": hidden}).code == "not_found"
    assert strict.post("/metadata", {"ids": [hidden], "indice_name": "small"}).json == []


def test_answer_headers_cannot_be_split(strict: Client) -> None:
    for path in ("/a%0d%0aSet-Cookie:%20x=1", "/images/small%0d%0aX:1/0/x.jpg"):
        answer = strict.get(path)
        assert answer.status == 404
        assert "set-cookie" not in answer.headers
    assert strict.get("/healthz", Origin="http://evil.test\tX: 1").status == 403


def test_answers_forbid_scripts_frames_and_sniffing(strict: Client) -> None:
    result = strict.search("dog", k=1).json["results"][0]
    for path in ("/", "/docs", "/api/datasets", result["image"], "/nothing", "/clip-front/"):
        headers = strict.get(path).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert "default-src 'none'" in headers["content-security-policy"], path
        assert "unsafe-inline" not in headers["content-security-policy"].partition("style-src")[0], path
    assert "sandbox" in strict.get(result["image"]).headers["content-security-policy"]


def test_foreign_host_and_origin_are_refused(strict: Client) -> None:
    assert strict.get("/api/datasets", Host="evil.test").code == "invalid_host"
    assert strict.get("/api/datasets", Host="localhost.evil.test:80").code == "invalid_host"
    assert strict.get("/api/datasets", Host=f"127.0.0.1:{strict.port}").status == 200
    assert strict.get("/api/datasets", Origin="http://evil.test").code == "invalid_origin"
    assert strict.get("/api/datasets", Origin="null").code == "invalid_origin"


def test_slow_body_ends_at_the_deadline(strict: Client) -> None:
    with connect(strict) as connection:
        connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n{")
        started = time.monotonic()
        assert read_all(connection).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - started < DEADLINE_S + 5


def test_slow_and_large_heads_end_early(strict: Client) -> None:
    with connect(strict) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
        started = time.monotonic()
        assert read_all(connection) == b""
        assert time.monotonic() - started < IDLE_S + 5
    with connect(strict) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n" + b"X: " + b"a" * 100_000)
        assert read_all(connection).startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


def test_client_that_does_not_read_its_answers_is_aborted(strict: Client) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.settimeout(DEADLINE_S + 20)
        connection.connect(("127.0.0.1", strict.port))
        connection.setblocking(False)
        with contextlib.suppress(BlockingIOError, ConnectionError):
            for _ in range(3_000):
                connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(DEADLINE_S / 2)
        assert strict.server.server_state.connections, "its answers wait"
        deadline = time.monotonic() + DEADLINE_S + 10
        while strict.server.server_state.connections:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert strict.get("/healthz").status == 200


def test_500_idle_connections_do_not_stop_the_service(strict: Client) -> None:
    held = []
    try:
        held.extend(connect(strict) for _ in range(500))
        refused = read_all(held[-1])  # one above the maximum is closed at once
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"too_many_connections" in refused
        deadline = time.monotonic() + 20
        while strict_status(strict) != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        for connection in held:
            connection.close()


def strict_status(client: Client) -> int:
    try:
        return client.get("/healthz").status
    except OSError:
        return 0


def test_many_large_bodies_share_a_memory_budget(strict: Client) -> None:
    largest = strict.service.settings.max_image_bytes * 4 // 3 + OVERHEAD_BYTES
    held = []
    try:
        for _ in range(LARGE_BODIES + 1):
            connection = connect(strict)
            held.append(connection)
            connection.sendall(HEAD + f"Content-Length: {largest}\r\n\r\n".encode() + b" " * (largest - 1))
        answered, _, _ = select.select(held, [], [], DEADLINE_S / 2)
        assert [connection.recv(12) for connection in answered] == [b"HTTP/1.1 429"]
        assert strict.search("dog").status == 200
    finally:
        for connection in held:
            connection.close()


def test_markup_in_an_answer_is_escaped() -> None:
    hostile = {"caption": "</script><script>alert(1)</script>", "url": "javascript:alert(1)"}
    assert b"<" not in to_json(hostile)
    assert json.loads(to_json(hostile)) == hostile


def test_more_searches_than_the_queue_holds_get_429(strict: Client) -> None:
    service = strict.service
    service.active += service.threads + service.settings.queue
    try:
        answer = strict.search("dog")
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (429, "too_many_requests", "1")
        assert strict.get("/healthz").status == 200
    finally:
        service.active -= service.threads + service.settings.queue


class Redirector(BaseHTTPRequestHandler):
    """Redirects to the path after /, which is a URL; counts the requests."""

    seen: list[str] = []

    def do_GET(self) -> None:
        self.seen.append(self.path)
        self.send_response(302)
        self.send_header("Location", self.path[1:])
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def by_url() -> Iterator[tuple[Client, int]]:
    """A service that allows queries by URL, and the port of a server that redirects, as `redirector.test`."""
    dataset = strict_dataset()
    with ThreadingHTTPServer(("127.0.0.1", 0), Redirector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with running_service(replace(dataset, search=replace(dataset.search, image_by_url=True))) as running:
            yield running, server.server_port
        server.shutdown()


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/x",
        "http://localhost:{port}/x",
        "http://[::1]:{port}/x",
        "http://2130706433:{port}/x",
        "http://0x7f.1:{port}/x",
        "http://169.254.169.254/latest/meta-data/",
        "http://metadata.google.internal/",
        "http://10.0.0.1/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:{port}/x",
        "http://redirector.test/http://127.0.0.1:{port}/x",
        "http://redirector.test/http://169.254.169.254/",
        "http://redirector.test/file:///etc/passwd",
    ],
)
def test_image_url_reaches_no_private_address(by_url, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    client, port = by_url
    resolve = {"redirector.test": f"127.0.0.1:{port}"}  # the only way to a redirect without the internet
    strict_policy = query_images.query_policy
    monkeypatch.setattr(query_images, "query_policy", lambda dataset: replace(strict_policy(dataset), resolve=resolve))
    before = len(Redirector.seen)
    answer = client.search({"image_url": url.format(port=port)})
    assert (answer.status, answer.code) == (400, "invalid_image_url")
    assert len(Redirector.seen) - before == ("redirector.test" in url)


def test_policy_of_image_urls_is_the_strict_one() -> None:
    dataset = replace(small_dataset(built_root()), resolve={"*.test": "127.0.0.1:80"})
    policy = query_images.query_policy(dataset)
    assert policy.resolve == FetchPolicy().resolve == {}
    assert policy.allowed_ports == (80, 443)


def test_token_is_required_for_everything_but_probes_and_the_page() -> None:
    with running_service(small_dataset(built_root()), token="a-secret-of-the-operator") as client:
        for path in ("/api/datasets", "/metrics", "/clip-front/", "/page/../api/datasets", "/images/small/0/x.jpg"):
            assert client.get(path).status == 401, path
        assert client.get("/healthz").status == 200
        assert client.get("/api/datasets", Authorization="Bearer a-secret-of-the-operatoR").status == 401
        assert client.get("/api/datasets", Authorization="Bearer a-secret-of-the-operator").status == 200


def test_allowed_origin_may_call_the_api() -> None:
    dataset = small_dataset(built_root())
    settings = replace(dataset.search, cors_origins=("https://page.test",), allowed_hosts=("search.test",))
    with running_service(replace(dataset, search=settings)) as client:
        answer = client.get("/api/datasets", Origin="https://page.test", Host="search.test")
        assert answer.headers["access-control-allow-origin"] == "https://page.test"
        assert "Retry-After" in answer.headers["access-control-expose-headers"]
        assert client.send("OPTIONS", "/api/search", headers={"Origin": "https://page.test"}).status == 204
        assert client.get("/api/datasets", Origin="https://other.test").status == 403


def test_script_in_a_report_stays_text_in_its_file(strict: Client, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report = {"dataset": "small", "uid": "0" * 32, "reason": "<script>\n\x1b[2J\u202e"}
    assert strict.post("/api/report", report).status == 202
    (line,) = (tmp_path / "search-reports.jsonl").read_text().splitlines()
    assert line.isprintable()
    assert json.loads(line)["reason"] == report["reason"]
    assert strict.post("/api/report", {**report, "uid": "../x"}).code == "invalid_uid"
