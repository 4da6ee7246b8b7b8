"""Fetching raw_csv over real HTTP: parallel, resumed, never half published."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from laion_assets.commit.manifest import disagreement
from laion_assets.commit.store import Store
from laion_assets.datasets import Dataset
from laion_assets.errors import ClaimError, SettingError, SourceError
from laion_assets.handles import RawCsv
from laion_assets.metadata import retry
from laion_assets.metadata.download import PARTIAL_FOLDER, fetch_raw_csv
from laion_assets.metadata.http_source import resolved_address
from laion_assets.metadata.listing import below
from laion_assets.metadata.partial import Partials
from laion_assets_tests.metadata.csv_site import CsvSite
from laion_assets_tests.metadata.tables import quiet

FILES = {
    "2021-01/a.csv": b"URL|TEXT\n" + b"a" * 50_000,
    "2021-01/b c.csv.gz": b"\x1f\x8b not really",
    "2021-02/deep/é.csv": b"x",
    "2021-02/a__b.csv": b"one",
    "2021-02/a/b.csv": b"other",
    "readme.txt": b"no table",
}
TABLES = {path for path in FILES if "csv" in path}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_S", 0.001)


@pytest.fixture
def crawl(dataset: Dataset, site: CsvSite) -> Dataset:
    """A dataset whose source is the site, with FILES on it."""
    site.files = dict(FILES)
    return replace(dataset, source=site.url, metadata=replace(dataset.metadata, stall_timeout_s=2.0, retries=2))


def content(dataset: Dataset) -> dict[str, bytes]:
    """What raw_csv holds, by its manifest."""
    store = Store.of(dataset)
    return {path.removeprefix("raw_csv/"): store.read_bytes(path) for path in RawCsv.of(dataset).files()}


def test_matching_files_below_the_listing_are_fetched_byte_for_byte(crawl: Dataset, site: CsvSite) -> None:
    site.extra_links = ["/elsewhere/z.csv", "http://127.0.0.1:1/z.csv", "javascript:0", "..%2f..%2fz.csv", "//[/z.csv"]
    manifest = fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert content(crawl) == {path: FILES[path] for path in TABLES}
    assert (manifest.counts.rows_in, manifest.counts.rows_out, manifest.counts.reasons) == (5, 5, {})
    assert disagreement(Store.of(crawl), manifest, hashes=True) is None
    assert not list((Path(Store.of(crawl).url) / PARTIAL_FOLDER).glob("[!.]*"))


def test_a_rerun_with_no_change_downloads_and_publishes_nothing(crawl: Dataset, site: CsvSite) -> None:
    first = fetch_raw_csv(crawl, Store.of(crawl), quiet)
    site.requests.clear()
    assert fetch_raw_csv(crawl, Store.of(crawl), quiet) == first
    assert site.bodies() == []
    site.validators = False
    assert fetch_raw_csv(crawl, Store.of(crawl), quiet) == first


def test_only_what_changed_is_fetched_again_and_what_went_is_gone(crawl: Dataset, site: CsvSite) -> None:
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    site.requests.clear()
    site.files["2021-01/a.csv"] = b"new"
    del site.files["2021-02/a/b.csv"]
    manifest = fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert [request.path for request in site.bodies()] == ["/crawl/2021-01/a.csv"]
    assert content(crawl)["2021-01/a.csv"] == b"new"
    assert manifest.counts.rows_in == 4
    assert not Path(Store.of(crawl).url, "raw_csv/2021-02/a/b.csv").exists()


def test_a_damaged_file_is_fetched_again(crawl: Dataset, site: CsvSite) -> None:
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    Path(Store.of(crawl).url, "raw_csv/2021-01/a.csv").write_bytes(b"cut")
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert content(crawl)["2021-01/a.csv"] == FILES["2021-01/a.csv"]


def test_a_cut_connection_is_resumed_by_range(crawl: Dataset, site: CsvSite) -> None:
    site.cuts = {"2021-01/a.csv": [20_000, 10_000]}
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    asked = [(each.range, each.status, each.sent) for each in site.requests if each.path.endswith("/a.csv")]
    assert asked == [(None, 200, 20_000), ("bytes=20000-", 206, 10_000), ("bytes=30000-", 206, 20_009)]
    assert content(crawl)["2021-01/a.csv"] == FILES["2021-01/a.csv"]


def test_a_file_that_changed_while_it_was_resumed_starts_again(crawl: Dataset, site: CsvSite) -> None:
    site.cuts = {"2021-01/a.csv": [10_000] * 3}
    with pytest.raises(
        SourceError, match=r"nothing was published(.|\n)*a\.csv could not be fetched in 3 tries: \d+ of 50009 bytes"
    ):
        fetch_raw_csv(crawl, Store.of(crawl), quiet)
    site.files["2021-01/a.csv"] = b"b" * 60_000
    site.requests.clear()
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert content(crawl)["2021-01/a.csv"] == b"b" * 60_000
    assert [request.path for request in site.bodies()] == ["/crawl/2021-01/a.csv"], "finished files were fetched again"


def test_without_validators_a_cut_file_starts_again(crawl: Dataset, site: CsvSite) -> None:
    site.validators = False
    site.cuts = {"2021-01/a.csv": [20_000]}
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert {each.range for each in site.requests} == {None}
    assert content(crawl)["2021-01/a.csv"] == FILES["2021-01/a.csv"]


def test_a_killed_fetch_goes_on_where_it_was(crawl: Dataset, site: CsvSite) -> None:
    """kill -9 in the middle of a file; the next process asks for the rest alone."""
    site.files = {"big.csv": b"0123456789" * 400_000, "small.csv": b"x"}
    script = (
        "import sys, dataclasses, time\n"
        "from laion_assets.datasets import SAMPLE\n"
        "from laion_assets.commit.store import Store\n"
        "from laion_assets.metadata import transfer\n"
        "from laion_assets.metadata.download import fetch_raw_csv\n"
        "transfer._CHUNK_BYTES = 100_000\n"
        "import http.client\n"
        "read1 = http.client.HTTPResponse.read1\n"
        "http.client.HTTPResponse.read1 = lambda self, n=-1: (time.sleep(0.05), read1(self, n))[1]\n"
        "dataset = dataclasses.replace(SAMPLE, source=sys.argv[1], root=sys.argv[2])\n"
        "fetch_raw_csv(dataset, Store.of(dataset), print)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, crawl.source, crawl.root], stdout=subprocess.DEVNULL)
    folder = Path(Store.of(crawl).url) / PARTIAL_FOLDER
    deadline = time.monotonic() + 30
    while not any(part.stat().st_size > 500_000 for part in folder.glob("*.part")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    held = max(part.stat().st_size for part in folder.glob("*.part"))
    site.requests.clear()
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    (request,) = site.bodies()
    assert (request.path, request.range, request.status) == ("/crawl/big.csv", f"bytes={held}-", 206)
    assert content(crawl) == site.files


def test_faults_that_pass_are_tried_again_and_others_are_not(crawl: Dataset, site: CsvSite) -> None:
    site.statuses = {"2021-01/a.csv": [503, 429], "2021-02/": [500]}
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    site.files["2021-03/new.csv"] = b"new"
    site.statuses = {"2021-03/new.csv": [403]}
    site.requests.clear()
    with pytest.raises(SourceError, match=r"2021-03/new\.csv answers 403"):
        fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert Counter(request.status for request in site.requests)[403] == 1
    assert set(content(crawl)) == TABLES


def test_a_listed_file_that_is_gone_is_counted(crawl: Dataset, site: CsvSite) -> None:
    site.statuses = {"2021-01/a.csv": [404]}
    manifest = fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert manifest.counts.reasons == {"vanished_404": 1}
    assert set(content(crawl)) == TABLES - {"2021-01/a.csv"}


def test_redirects_stay_on_http(crawl: Dataset, site: CsvSite) -> None:
    site.redirects = {"/crawl/2021-01/a.csv": "/crawl/2021-02/a__b.csv"}
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert content(crawl)["2021-01/a.csv"] == b"one"
    for target in ("file:///etc/passwd", "ftp://127.0.0.1/x"):
        site.redirects = {"/crawl/2021-01/a.csv": target}
        with pytest.raises(SourceError, match="only http and https"):
            fetch_raw_csv(crawl, Store.of(crawl), quiet)


def test_a_dribbling_server_is_given_up_on_time(crawl: Dataset, site: CsvSite, monkeypatch: pytest.MonkeyPatch) -> None:
    send = CsvSite._send

    def dribble(self, handler, request, status, headers, body, cut=None) -> None:
        if not request.path.endswith("a.csv"):
            send(self, handler, request, status, headers, body, cut)
            return
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        for byte in body[:100]:
            handler.wfile.write(bytes([byte]))
            time.sleep(0.05)

    monkeypatch.setattr(CsvSite, "_send", dribble)
    slow = replace(crawl, metadata=replace(crawl.metadata, stall_timeout_s=0.5, retries=1))
    started = time.monotonic()
    with pytest.raises(SourceError, match="bytes came in"):
        fetch_raw_csv(slow, Store.of(slow), quiet)
    assert time.monotonic() - started < 4


def test_names_are_resolved_by_the_dataset_and_keep_their_host_header(crawl: Dataset, site: CsvSite) -> None:
    named = replace(crawl, source="http://crawl.test/crawl/", resolve={"*.test": site.address})
    fetch_raw_csv(named, Store.of(named), quiet)
    assert set(content(named)) == TABLES
    assert {request.host for request in site.requests} == {"crawl.test"}


def test_the_most_particular_pattern_resolves() -> None:
    resolve = {"*": "127.0.0.1:1", "*.test": "127.0.0.1:2", "a.test": "127.0.0.1:3", "v6.org": "[::1]:4"}
    assert resolved_address(resolve, "A.test.") == ("127.0.0.1", 3)
    assert resolved_address(resolve, "b.test") == ("127.0.0.1", 2)
    assert resolved_address(resolve, "v6.org") == ("::1", 4)
    assert resolved_address({"a.test": "127.0.0.1:3"}, "b.org") is None
    with pytest.raises(SettingError, match="address:port"):
        resolved_address({"*": "localhost"}, "a.test")


def test_a_local_folder_is_a_source_too(dataset: Dataset, tmp_path: Path) -> None:
    for path, body in FILES.items():
        (tmp_path / "in" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / path).write_bytes(body)
    local = replace(dataset, source=str(tmp_path / "in"))
    first = fetch_raw_csv(local, Store.of(local), quiet)
    assert content(local) == {path: FILES[path] for path in TABLES}
    assert fetch_raw_csv(local, Store.of(local), quiet) == first
    (tmp_path / "in/2021-01/a.csv").write_bytes(b"changed")
    fetch_raw_csv(local, Store.of(local), quiet)
    assert content(local)["2021-01/a.csv"] == b"changed"


def test_a_store_that_is_no_local_disk_and_a_source_that_is_none(dataset: Dataset, tmp_path: Path) -> None:
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.pipe_file("/in/2021/a.csv", b"abc")
    remote = replace(dataset, source="memory://in", root=f"memory://{tmp_path.name}")
    first = fetch_raw_csv(remote, Store.of(remote), quiet)
    assert content(remote) == {"2021/a.csv": b"abc"}
    assert fetch_raw_csv(remote, Store.of(remote), quiet) == first


def test_a_source_without_tables_or_without_a_name_is_refused(crawl: Dataset, site: CsvSite) -> None:
    site.files = {"readme.txt": b""}
    with pytest.raises(SourceError, match=r"metadata\.pattern"):
        fetch_raw_csv(crawl, Store.of(crawl), quiet)
    with pytest.raises(SettingError, match="source"):
        fetch_raw_csv(replace(crawl, source=""), Store.of(crawl), quiet)
    with pytest.raises(SourceError, match="cannot be listed"):
        fetch_raw_csv(replace(crawl, source="/no/such/folder"), Store.of(crawl), quiet)


def test_one_process_fetches_at_a_time(crawl: Dataset) -> None:
    other = Partials(Path(Store.of(crawl).url) / PARTIAL_FOLDER)
    with pytest.raises(ClaimError, match="another process"):
        fetch_raw_csv(crawl, Store.of(crawl), quiet)
    other.close()
    fetch_raw_csv(crawl, Store.of(crawl), quiet)


@pytest.mark.parametrize(
    "link",
    [
        "http://h/d/../x.csv",
        "http://h/d/%2e%2e/x.csv",
        "http://h/d//x.csv",
        "http://h/x.csv",
        "http://h/d/%00.csv",
        "http://h/d/a%5cb.csv",
        "http://h/d/" + "x" * 300,
        "http://h/d/",
    ],
)
def test_a_link_cannot_lead_out_of_the_folder(link: str) -> None:
    assert below("http://h/d/", link) is None


def test_the_manifest_remembers_what_the_server_said(crawl: Dataset) -> None:
    manifest = fetch_raw_csv(crawl, Store.of(crawl), quiet)
    url, etag, _, size = json.loads(manifest.to_json())["details"]["origins"]["raw_csv/2021-01/a.csv"]
    assert (url, etag[0], size) == (f"{crawl.source}2021-01/a.csv", '"', 50_009)
