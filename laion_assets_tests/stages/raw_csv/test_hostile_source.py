"""A hostile source: no request to private addresses, one bad response costs one file, everything is bounded."""

import gzip
import json
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import SourceError
from laion_assets.http.sources import retry
from laion_assets.stages.raw_csv.build import PARTIAL_FOLDER, fetch_raw_csv
from laion_assets.stages.raw_csv.sources import url_list
from laion_assets.store.manifest import Manifest
from laion_assets.store.store import Store
from laion_assets_tests.stages.dedup_parquet.tables import quiet
from laion_assets_tests.stages.image_shards.site import Site, answer, raw, running

GOOD = b"SAMPLE_ID|URL|TEXT|similarity\n1|http://photos.test/a.jpg|a cat|0.3\n"
LISTING = answer(b'<a href="good.csv">g</a><a href="bad.csv">b</a>', "200 OK", "Content-Type: text/html")
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
SENT_BACK = (b"if-none-match", b"if-modified-since", b"if-range", b"range", b"cookie", b"authorization")


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(retry, "MAX_PAUSE_S", 0.01)


@pytest.fixture
def evil() -> Iterator[Site]:
    """The operator's source, `http://evil.test/csv/`, with one good and one bad file."""
    with running({"/csv/": LISTING, "/csv/good.csv": answer(GOOD)}) as site:
        yield site


@pytest.fixture
def inside() -> Iterator[Site]:
    """A server on loopback that must not be reached. All its pages are secret."""
    with running({"/": answer(b"SAMPLE_ID|URL|TEXT|similarity\nSECRET|http://x.test/|token|0.3\n")}) as site:
        site.pages.update({"/latest/meta-data/iam": site.pages["/"], "/graphql": site.pages["/"]})
        yield site


@pytest.fixture
def crawl(dataset: Dataset, evil: Site) -> Dataset:
    settings = replace(dataset.csv, timeout_s=1.0, retries=0, downloads=4)
    return replace(
        dataset, source="http://evil.test/csv/", resolve={"evil.test": f"127.0.0.1:{evil.port}"}, csv=settings
    )


def fetch(crawl: Dataset, log: Callable[[str], None] = quiet) -> Manifest:
    return fetch_raw_csv(crawl, Store.of(crawl), log)


def stored(crawl: Dataset) -> dict[str, bytes]:
    folder = Path(Store.of(crawl).url)
    return {path.name: path.read_bytes() for path in (folder / "raw_csv").rglob("*") if path.is_file()}


def redirect(location: str) -> Any:
    return raw(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location.encode("latin-1") + b"\r\n\r\n")


INWARD = {
    "http://127.0.0.1:{port}/latest/meta-data/iam": "blocked_address",
    "http://127.0.0.1:{port}/graphql?query=mutation%7BsetConcurrencyLimit(limit:7)%7D": "blocked_address",
    "//127.0.0.1:{port}/": "blocked_address",
    "http://[::1]:{port}/": "blocked_address",
    "http://2130706433:{port}/": "blocked_address",
    "http://localhost:{port}/": "blocked_port",
    "http://localhost/": "blocked_address",
    "http://169.254.169.254/latest/meta-data/": "blocked_address",
    "http://168.63.129.16/metadata": "blocked_address",
    "http://evil.test@127.0.0.1:{port}/": "blocked_address",
    "http:/\\127.0.0.1:{port}/": "http_404",
    "file:///etc/passwd": "unsupported_scheme",
    "FILE:///etc/passwd": "unsupported_scheme",
    "gopher://127.0.0.1:{port}/": "unsupported_scheme",
    "http://[/": "bad_redirect",
    "": "bad_redirect",
}


@pytest.mark.parametrize("location", INWARD)
def test_redirect_of_a_file_does_not_reach_private_addresses(
    crawl: Dataset, evil: Site, inside: Site, location: str
) -> None:
    evil.pages["/csv/bad.csv"] = redirect(location.format(port=inside.port))
    reasons = fetch(crawl).counts.reasons
    assert sum(reasons.values()) == 1
    if not location.startswith("http:/\\"):  # a relative path of the source itself, to Python as to curl
        assert reasons == {INWARD[location]: 1}
    assert inside.requests == []
    assert stored(crawl) == {"good.csv": GOOD}


def test_redirect_of_the_listing_does_not_reach_private_addresses(crawl: Dataset, evil: Site, inside: Site) -> None:
    evil.pages["/csv/"] = redirect(f"http://127.0.0.1:{inside.port}/")
    with pytest.raises(
        SourceError, match=r"Cannot read the listing http://evil\.test/csv/: blocked_\w+: .* allow_networks\.$"
    ):
        fetch(crawl)
    assert inside.requests == []


def test_listed_urls_do_not_reach_private_addresses(crawl: Dataset, evil: Site, inside: Site) -> None:
    urls = f"http://127.0.0.1:{inside.port}/a.csv\nhttp://[::1]/b.csv\nhttp://evil.test/csv/good.csv\n"
    evil.pages["/urls.txt"] = answer(urls.encode())
    manifest = fetch(replace(crawl, source="list:http://evil.test/urls.txt"))
    assert manifest.counts.reasons == {"blocked_address": 2}
    assert [entry.path for entry in manifest.files] == ["raw_csv/evil.test/csv/good.csv"]
    assert inside.requests == []


def test_private_host_of_the_settings_may_redirect_to_itself_but_not_to_other_ports(
    crawl: Dataset, evil: Site, inside: Site
) -> None:
    evil.pages["/csv/bad.csv"] = redirect("/csv/good.csv")
    own = replace(crawl, source=f"http://127.0.0.1:{evil.port}/csv/", resolve={})
    assert fetch(own).counts.reasons == {}
    evil.pages["/csv/bad.csv"] = redirect(f"http://127.0.0.1:{inside.port}/")
    assert fetch(replace(own, root=f"{own.root}-2")).counts.reasons == {"blocked_address": 1}
    assert inside.requests == []


INJECTED = '"x\n\nPOST /admin HTTP/1.1\nHost: internal\nContent-Length: 2\n\nhi"'
CONTROLS = ["\n", "\r", "\0", "\x01", "\x7f"]


@pytest.mark.parametrize("etag", [INJECTED, *(f'"x{sign}y"' for sign in CONTROLS), '"good"'])
@pytest.mark.parametrize("runs", [1, 2])
def test_validators_are_sent_back_only_if_well_formed_and_only_to_their_origin(
    crawl: Dataset, evil: Site, etag: str, runs: int
) -> None:
    """One run resumes the download, two runs send a conditional request."""
    with running({"/x.csv": answer(GOOD)}) as victim:
        crawl = replace(
            crawl,
            resolve={**crawl.resolve, "victim.test": f"127.0.0.1:{victim.port}"},
            csv=replace(crawl.csv, retries=1),
        )
        headers = (f"ETag: {etag}", "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT\x01")

        def first(sock: Any) -> None:
            evil.pages["/csv/bad.csv"] = redirect("http://victim.test/x.csv")
            answer(GOOD, "200 OK", *headers, length=len(GOOD) + 1_000 * (runs == 1))(sock)

        evil.pages["/csv/bad.csv"] = first
        for _ in range(runs):
            fetch(crawl)
        assert len(victim.requests) == 1
        head, _, rest = victim.requests[0].partition(b"\r\n\r\n")
        assert rest == b""
        assert not any(line.lower().startswith(SENT_BACK) for line in head.split(b"\r\n"))
        assert b"POST" not in b"".join(evil.requests)
        assert (b'"good"' in b"".join(evil.requests)) is (etag == '"good"')


HOSTILE = {
    "banner": raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "http/2": raw(b"HTTP/2 200\r\n\r\n"),
    "http/0.9": raw(b"<html>"),
    "status": raw("HTTP/1.1 ²00 OK\r\n\r\n".encode("latin-1")),
    "long status": raw(b"HTTP/1.1 " + b"2" * 5_000 + b" OK\r\n\r\n"),
    "101": raw(b"HTTP/1.1 101 Switching\r\n\r\n"),
    "length of 5,000 digits": raw(OK + b"Content-Length: " + b"9" * 5_000 + b"\r\n\r\nx"),
    "length in other digits": raw(OK + "Content-Length: ²\r\n\r\nx".encode("latin-1")),
    "negative length": raw(OK + b"Content-Length: -1\r\n\r\nx"),
    "two lengths": raw(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxy"),
    "chunk of 5,000 digits": raw(CHUNKED + b"f" * 5_000 + b"\r\n"),
    "chunk of 17 digits": raw(CHUNKED + b"f" * 19 + b"\r\nx"),
    "negative chunk": raw(CHUNKED + b"-1\r\nx"),
    "chunk in other digits": raw(CHUNKED + "²\r\nx".encode("latin-1")),
    "chunk with an underscore": raw(CHUNKED + b"1_0\r\nx"),
    "chunk without an end": raw(CHUNKED + b"1\r\nxyz\r\n0\r\n\r\n"),
    "chunk line without an end": raw(CHUNKED + b"1;" + b"x" * 100_000),
    "trailers without an end": raw(CHUNKED + b"1\r\nx\r\n0\r\n" + b"T: r\r\n" * 50_000),
    "1xx without an end": raw(b"HTTP/1.1 103 Early\r\nLink: <x>\r\n\r\n" * 5_000),
    "header without an end": raw(OK + b"X: " + b"y" * 500_000),
    "headers without an end": raw(OK + b"X: y\r\n" * 50_000),
    "transfer encoding": raw(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n"),
    "several encodings": answer(GOOD, "200 OK", "Content-Encoding: gzip, br"),
    "brotli": answer(b"\x0b\x02\x80\x03", "200 OK", "Content-Encoding: br"),
    "damaged gzip": answer(gzip.compress(GOOD)[:10] + b"\xff" * 30, "200 OK", "Content-Encoding: gzip"),
    "truncated gzip": answer(gzip.compress(GOOD)[:-9], "200 OK", "Content-Encoding: gzip"),
    "empty gzip members": answer(gzip.compress(b"") * 2_000, "200 OK", "Content-Encoding: gzip"),
    "announced petabyte": raw(OK + b"Content-Length: 1000000000000000\r\n\r\nx"),
    "redirects without an end": redirect("/csv/bad.csv"),
    "redirect without a place": raw(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"),
}
ABSURD = {
    "dates": ("Last-Modified: Thu, 01 Jan 0001 00:00:00 +9999", "Date: Thu, 01 Jan 9999 00:00:00 -9999"),
    "offsets": ("Last-Modified: Thu, 01 Jan 2026 00:00:00 +99999999999999999999", f"Date: {'9' * 5_000}"),
    "naive dates": ("Last-Modified: Thu, 01 Jan 2026 00:00:00 -0000", "Date: Thu, 01 Jan 2026 00:00:00 GMT"),
    "tags": (f"ETag: {'x' * 5_000}", 'ETag: W/"', "ETag: "),
    "ranges": ("Content-Range: bytes ²-³/*", "Accept-Ranges: bytes"),
    "cookies": ("Set-Cookie: a=b; Domain=test", "WWW-Authenticate: Basic"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_malformed_response_costs_one_file_and_is_counted(crawl: Dataset, evil: Site, kind: str) -> None:
    evil.pages["/csv/bad.csv"] = HOSTILE[kind]
    if kind == "redirect without a place":
        with pytest.raises(SourceError, match=r"bad\.csv: the server answered 302 Found"):
            fetch(crawl)
        return
    manifest = fetch(crawl)
    assert (manifest.counts.rows_in, manifest.counts.rows_out) == (2, 1)
    assert set(manifest.counts.reasons) <= {
        "bad_response",
        "bad_encoding",
        "short_body",
        "too_large",
        "too_many_redirects",
    }
    assert not list((Path(Store.of(crawl).url) / PARTIAL_FOLDER).glob("*"))


@pytest.mark.parametrize("kind", ABSURD)
def test_absurd_headers_of_a_good_file_are_ignored(crawl: Dataset, evil: Site, kind: str) -> None:
    evil.pages["/csv/bad.csv"] = answer(GOOD, "200 OK", *ABSURD[kind])
    for _ in range(2):
        manifest = fetch(crawl)
        assert (manifest.counts.rows_out, manifest.counts.reasons) == (2, {})
    assert not any(b"Cookie" in request or b"Authorization" in request for request in evil.requests)


@pytest.mark.parametrize("value", ["²", "9" * 5_000, "-1", "Thu, 01 Jan 9999 00:00:00 -9999", "Thu, 99 Jan 2026"])
def test_invalid_retry_after_is_ignored(crawl: Dataset, evil: Site, value: str) -> None:
    def busy(sock: Any) -> None:
        evil.pages["/csv/bad.csv"] = answer(GOOD)
        raw(f"HTTP/1.1 503 Busy\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n".encode("latin-1"))(sock)

    evil.pages["/csv/bad.csv"] = busy
    assert fetch(replace(crawl, csv=replace(crawl.csv, retries=1))).counts.rows_out == 2


def drip(start: bytes, piece: bytes) -> Any:
    def talk(sock: Any) -> None:
        sock.sendall(start)
        for _ in range(60):
            sock.sendall(piece)
            time.sleep(0.1)

    return talk


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (OK + b"Content-Length: 99999\r\n\r\n", b"x"),
        (CHUNKED, b"1\r\nx\r\n"),
        (CHUNKED + b"1\r\nx\r\n0\r\n", b"T: r\r\n"),
        (CHUNKED, b"0"),
        (OK, b"X: y\r\n"),
        (b"", b"HTTP/1.1 102 Processing\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("place", ["/csv/bad.csv", "/csv/"])
def test_server_that_sends_single_bytes_is_aborted(
    crawl: Dataset, evil: Site, start: bytes, piece: bytes, place: str
) -> None:
    evil.pages[place] = drip(start, piece)
    started = time.monotonic()
    with pytest.raises(SourceError, match="Failed to fetch"):
        fetch(crawl)
    assert time.monotonic() - started < 5


def zeros(mebibytes: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([*(packer.compress(bytes(1 << 20)) for _ in range(mebibytes)), packer.flush()])


def flood(sock: Any) -> None:
    sock.sendall(OK + b"\r\n")
    for _ in range(100):
        sock.sendall(b"x" * (1 << 20))


@pytest.mark.parametrize("kind", ["endless", "bomb"])
def test_body_over_the_file_budget_is_refused_and_deleted(crawl: Dataset, evil: Site, kind: str) -> None:
    evil.pages["/csv/bad.csv"] = flood if kind == "endless" else answer(zeros(50), "200 OK", "Content-Encoding: gzip")
    bounded = replace(crawl, csv=replace(crawl.csv, max_file_bytes=1 << 20))
    logged: list[str] = []
    assert fetch(bounded, logged.append).counts.reasons == {"too_large": 1}
    assert any("bad.csv: too_large: the body: more than csv.max_file_bytes" in line for line in logged)
    assert sum(path.stat().st_size for path in Path(crawl.root).rglob("*") if path.is_file()) < 100_000


def test_body_that_expands_a_thousand_times_is_refused_before_the_budget_is_used_up(crawl: Dataset, evil: Site) -> None:
    evil.pages["/csv/bad.csv"] = answer(zeros(200), "200 OK", "Content-Encoding: gzip")
    assert fetch(crawl).counts.reasons == {"too_large": 1}
    assert not list((Path(Store.of(crawl).url) / PARTIAL_FOLDER).glob("*"))


def test_run_over_its_budget_fails_naming_the_setting(crawl: Dataset, evil: Site) -> None:
    evil.pages["/csv/bad.csv"] = flood
    with pytest.raises(SourceError, match=r"csv\.max_run_bytes \(1,000,000 bytes\)"):
        fetch(replace(crawl, csv=replace(crawl.csv, max_run_bytes=1_000_000)))
    assert sum(path.stat().st_size for path in Path(crawl.root).rglob("*") if path.is_file()) < 2_000_000


@pytest.mark.parametrize("kind", ["gzip list", "encoded list", "encoded page", "one line"])
def test_expanding_lists_and_pages_are_bounded_in_memory(
    crawl: Dataset, evil: Site, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(url_list, "MAX_LIST_BYTES", 4 << 20)
    monkeypatch.setattr("laion_assets.http.listings.listing.MAX_PAGE_BYTES", 4 << 20)
    bomb, headers = zeros(100), ("Content-Encoding: gzip",)
    evil.pages["/urls"] = answer(b"x" * (3 << 20)) if kind == "one line" else answer(
        bomb, "200 OK", *(headers if kind == "encoded list" else ())
    )  # fmt: skip
    evil.pages["/csv/"] = answer(bomb, "200 OK", *headers)
    source = "http://evil.test/csv/" if kind == "encoded page" else "list:http://evil.test/urls"
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match=r"too_large|decodes to more|longer than"):
            fetch(replace(crawl, source=source))
        assert tracemalloc.get_traced_memory()[1] < 40 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "page",
    [
        "[" * 100_000,
        '[{"a":' * 100_000,
        json.dumps([{"name": "a.csv", "size": 10**400}]).replace('"size": 1', '"size": 9'),
        "[" + "9" * 5_000 + "]",
        '[{"name": "a.csv", "size": "' + "9" * 100 + '"},' * 3,
        '["' + "\\ud800" * 10 + '"]',
    ],
    ids=["nested", "nested objects", "size", "number", "truncated", "surrogates"],
)
def test_absurd_json_listings_are_refused_naming_the_url(crawl: Dataset, evil: Site, page: str) -> None:
    evil.pages["/csv/"] = answer(page.encode(), "200 OK", "Content-Type: application/json")
    with pytest.raises(SourceError, match=r"http://evil\.test/csv/"):
        fetch(crawl)
