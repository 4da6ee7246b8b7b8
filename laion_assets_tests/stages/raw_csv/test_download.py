"""Fetch of raw_csv over real HTTP: parallel, resumable, committed as a whole."""

import errno
import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from hashlib import md5, sha256
from pathlib import Path

import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import LeaseError, SettingError, SourceError
from laion_assets.http.sources import retry
from laion_assets.stages.raw_csv.build import PARTIAL_FOLDER, fetch_raw_csv
from laion_assets.stages.raw_csv.handle import RawCsv
from laion_assets.stages.raw_csv.transfers.partial_files import Download, Partials
from laion_assets.store.manifest import disagreement
from laion_assets.store.store import Store
from laion_assets_tests.stages.dedup_parquet.tables import quiet
from laion_assets_tests.stages.raw_csv.csv_site import CsvSite

FILES = {
    "2021-01/a.csv": b"URL|TEXT\n" + b"a" * 50_000,
    "2021-01/b c.csv.gz": b"\x1f\x8b not really",
    "2021-02/deep/é.csv": b"x",
    "2021-02/a__b.csv": b"one",
    "2021-02/a/b.csv": b"other",
    "readme.txt": b"no table",
}
TABLES = {path for path in FILES if "csv" in path}

NO_CHANGES = {"new": 0, "changed": 0, "unchanged": 0, "deleted_kept": 0, "deleted_removed": 0}


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_S", 0.001)


@pytest.fixture
def crawl(dataset: Dataset, site: CsvSite) -> Dataset:
    """A dataset whose source is the site, with FILES on it."""
    site.files = dict(FILES)
    return replace(dataset, source=site.url, csv=replace(dataset.csv, timeout_s=2.0, retries=2))


def content(dataset: Dataset) -> dict[str, bytes]:
    """Read the files of raw_csv that its manifest lists."""
    store = Store.of(dataset)
    return {path.removeprefix("raw_csv/"): store.read_bytes(path) for path in RawCsv.of(dataset).files()}


def test_matching_files_below_the_listing_are_fetched_byte_for_byte(crawl: Dataset, site: CsvSite) -> None:
    site.extra_links = ["/elsewhere/z.csv", "http://127.0.0.1:1/z.csv", "javascript:0", "//[/z.csv"]
    manifest = fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert content(crawl) == {path: FILES[path] for path in TABLES}
    assert (manifest.counts.rows_in, manifest.counts.rows_out) == (6, 5)
    assert manifest.counts.reasons == {"other_pattern": 1}, "readme.txt"
    assert disagreement(Store.of(crawl), manifest, hashes=True) is None
    assert not (Path(Store.of(crawl).url) / PARTIAL_FOLDER).exists()


def test_rerun_without_changes_downloads_and_commits_nothing(crawl: Dataset, site: CsvSite) -> None:
    first = fetch_raw_csv(crawl, Store.of(crawl), quiet)
    site.requests.clear()
    assert fetch_raw_csv(crawl, Store.of(crawl), quiet) == first
    assert site.bodies() == []
    site.validators = False
    assert fetch_raw_csv(crawl, Store.of(crawl), quiet) == first


def test_only_new_and_changed_files_are_fetched(crawl: Dataset, site: CsvSite) -> None:
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    site.requests.clear()
    site.files["2021-01/a.csv"] = b"new"
    site.files["2022-01/a.csv"] = b"more"
    manifest = fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert {request.path for request in site.bodies()} == {"/crawl/2021-01/a.csv", "/crawl/2022-01/a.csv"}
    assert content(crawl) == {path: site.files[path] for path in (*TABLES, "2022-01/a.csv")}
    assert disagreement(Store.of(crawl), manifest, hashes=True) is None
    assert manifest.details["changes"] == {**NO_CHANGES, "new": 1, "changed": 1, "unchanged": 4}


def test_unchanged_files_are_neither_moved_nor_read(crawl: Dataset, site: CsvSite) -> None:
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    old = Path(Store.of(crawl).url, "raw_csv/2021-01/a.csv")
    before, altered = old.stat(), b"A" + FILES["2021-01/a.csv"][1:]
    old.write_bytes(altered)  # of the same size, but with another sha256
    site.files["2022-01/a.csv"] = b"more"
    manifest = fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert (old.stat().st_ino, old.read_bytes()) == (before.st_ino, altered)
    assert "altered" in str(disagreement(Store.of(crawl), manifest, hashes=True)), "the asset check finds it"


@pytest.mark.parametrize("how", ["unlisted", "listed, and 404"])
@pytest.mark.parametrize("policy", ["keep", "remove", "refuse"])
def test_files_deleted_at_the_source(crawl: Dataset, site: CsvSite, policy: str, how: str) -> None:
    first = fetch_raw_csv(crawl, Store.of(crawl), quiet)
    if how == "unlisted":
        del site.files["2021-02/a/b.csv"]
    else:
        site.statuses = {"2021-02/a/b.csv": [404]}
    changed = replace(crawl, csv=replace(crawl.csv, deleted_at_source=policy))
    logged: list[str] = []
    if policy == "refuse":
        with pytest.raises(SourceError, match=r"were deleted at source: 2021-02/a/b\.csv(.|\n)*csv\.deleted_at_source"):
            fetch_raw_csv(changed, Store.of(crawl), logged.append)
        assert set(content(crawl)) == TABLES
        return
    manifest = fetch_raw_csv(changed, Store.of(crawl), logged.append)
    assert f"deleted at source, {policy}: 2021-02/a/b.csv" in logged
    assert manifest.details["changes"][f"deleted_{'kept' if policy == 'keep' else 'removed'}"] == 1
    manifest.counts.check("raw_csv")
    if policy == "keep":
        assert manifest.files == first.files
        assert list(manifest.details["deleted_at_source"]) == ["2021-02/a/b.csv"]
        site.statuses = {"2021-02/a/b.csv": [404]}
        assert fetch_raw_csv(changed, Store.of(crawl), quiet) == manifest, "known already"
    else:
        assert set(content(crawl)) == TABLES - {"2021-02/a/b.csv"}
        assert not Path(Store.of(crawl).url, "raw_csv/2021-02/a/b.csv").exists()


def test_restored_file_is_no_longer_marked_as_deleted(crawl: Dataset, site: CsvSite) -> None:
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    site.statuses = {"2021-01/a.csv": [410]}
    assert fetch_raw_csv(crawl, Store.of(crawl), quiet).details["deleted_at_source"]
    site.requests.clear()
    assert fetch_raw_csv(crawl, Store.of(crawl), quiet).details["deleted_at_source"] == {}
    assert site.bodies() == []


def test_file_that_became_a_folder_is_refused_until_it_is_moved_away(crawl: Dataset, site: CsvSite) -> None:
    site.files = {"a.csv": b"file", "b.csv": b"other"}
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    site.files = {"a.csv/x.csv": b"in a folder", "b.csv": b"other"}
    with pytest.raises(SourceError, match=r"is now a folder of the source, .*: a\.csv\. Nothing was committed"):
        fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert set(content(crawl)) == {"a.csv", "b.csv"}
    Path(Store.of(crawl).url, "raw_csv/a.csv").unlink()
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert content(crawl) == site.files


def test_files_of_another_source_do_not_count_as_deleted(crawl: Dataset, site: CsvSite) -> None:
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    other = replace(crawl, source=f"{site.url}2021-02/", csv=replace(crawl.csv, deleted_at_source="refuse"))
    manifest = fetch_raw_csv(other, Store.of(crawl), quiet)
    assert set(content(other)) == {"a__b.csv", "a/b.csv", "deep/é.csv"}
    assert manifest.details["deleted_at_source"] == {}


def test_damaged_file_is_fetched_again(crawl: Dataset, site: CsvSite) -> None:
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    Path(Store.of(crawl).url, "raw_csv/2021-01/a.csv").write_bytes(b"cut")
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert content(crawl)["2021-01/a.csv"] == FILES["2021-01/a.csv"]


def test_broken_connection_is_resumed_by_range_request(crawl: Dataset, site: CsvSite) -> None:
    site.cuts = {"2021-01/a.csv": [20_000, 10_000]}
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    asked = [(each.range, each.status, each.sent) for each in site.requests if each.path.endswith("/a.csv")]
    assert asked == [(None, 200, 20_000), ("bytes=20000-", 206, 10_000), ("bytes=30000-", 206, 20_009)]
    assert content(crawl)["2021-01/a.csv"] == FILES["2021-01/a.csv"]


def test_file_that_changed_before_the_resumption_starts_from_the_beginning(crawl: Dataset, site: CsvSite) -> None:
    site.cuts = {"2021-01/a.csv": [10_000] * 3}
    with pytest.raises(
        SourceError,
        match=r"Nothing was committed(.|\n)*Failed to fetch .*a\.csv in 3 tries: received \d+ of 50009 bytes",
    ):
        fetch_raw_csv(crawl, Store.of(crawl), quiet)
    site.files["2021-01/a.csv"] = b"b" * 60_000
    site.requests.clear()
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert content(crawl)["2021-01/a.csv"] == b"b" * 60_000
    assert [request.path for request in site.bodies()] == ["/crawl/2021-01/a.csv"], "finished files were fetched again"


def test_truncated_file_without_validators_starts_from_the_beginning(crawl: Dataset, site: CsvSite) -> None:
    site.validators = False
    site.cuts = {"2021-01/a.csv": [20_000]}
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert {each.range for each in site.requests} == {None}
    assert content(crawl)["2021-01/a.csv"] == FILES["2021-01/a.csv"]


def test_killed_fetch_resumes_by_range_request(crawl: Dataset, site: CsvSite) -> None:
    """kill -9 in the middle of a file. The next process requests only the rest."""
    site.files = {"big.csv": b"0123456789" * 400_000, "small.csv": b"x"}
    site.pace_s = 0.05
    script = (
        "import sys, dataclasses\n"
        "from laion_assets.dataset.built_in import SAMPLE\n"
        "from laion_assets.store.store import Store\n"
        "from laion_assets.stages.raw_csv.build import fetch_raw_csv\n"
        "dataset = dataclasses.replace(SAMPLE, source=sys.argv[1], root=sys.argv[2])\n"
        "fetch_raw_csv(dataset, Store.of(dataset), print)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, crawl.source, crawl.root], stdout=subprocess.DEVNULL)
    folder = Path(Store.of(crawl).url) / PARTIAL_FOLDER
    big = folder / md5(b"big.csv").hexdigest()
    deadline = time.monotonic() + 30
    while not (big.exists() and big.stat().st_size > 500_000):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    held = big.stat().st_size
    site.requests.clear()
    site.pace_s = 0.0
    manifest = fetch_raw_csv(crawl, Store.of(crawl), quiet)
    (request,) = site.bodies()
    assert (request.path, request.range, request.status) == ("/crawl/big.csv", f"bytes={held}-", 206)
    assert content(crawl) == site.files
    assert manifest.entry("big.csv").sha256 == sha256(site.files["big.csv"]).hexdigest()


def test_interrupt_ends_the_fetch_and_keeps_the_received_bytes(crawl: Dataset, site: CsvSite) -> None:
    site.files = {"big.csv": b"0123456789" * 400_000}
    site.pace_s = 0.05
    timer = threading.Timer(0.7, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        fetch_raw_csv(crawl, Store.of(crawl), quiet)
    site.requests.clear()
    site.pace_s = 0.0
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert [(request.status, request.range is None) for request in site.bodies()] == [(206, False)]


def test_fetch_survives_a_restart_of_the_server(crawl: Dataset, site: CsvSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_S", 0.25)
    site.files = {f"{number}.csv": b"x" * 300_000 for number in range(40)}
    site.pace_s = 0.05
    slowly = replace(crawl, csv=replace(crawl.csv, downloads=4))

    def restart() -> None:
        site.__exit__()
        time.sleep(0.3)
        site.__enter__()

    timer = threading.Timer(0.5, restart)
    timer.start()
    manifest = fetch_raw_csv(slowly, Store.of(crawl), quiet)
    timer.join()
    assert len(manifest.files) == 40
    assert content(crawl) == site.files


def test_file_starts_again_if_the_server_ignores_range_requests(crawl: Dataset, site: CsvSite) -> None:
    site.ranges = False
    site.cuts = {"2021-01/a.csv": [20_000]}
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    asked = [(each.range, each.status) for each in site.requests if each.path.endswith("/a.csv")]
    assert asked == [(None, 200), ("bytes=20000-", 200)]
    assert content(crawl)["2021-01/a.csv"] == FILES["2021-01/a.csv"]


def test_unrequested_content_encodings_are_decoded_or_refused(crawl: Dataset, site: CsvSite) -> None:
    """gzip is decoded, unless the file is a .gz file. A file in another coding is left out."""
    plain, packed = b"URL|TEXT\n" * 30_000, gzip.compress(b"URL|TEXT\n" * 30_000)
    site.files = {"a.csv": packed, "b.csv.gz": packed}
    site.headers = {name: {"Content-Encoding": "x-gzip"} for name in site.files}
    site.cuts = {"a.csv": [len(packed) // 2]}
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert content(crawl) == {"a.csv": plain, "b.csv.gz": packed}
    assert {request.range for request in site.requests} == {None}, "a decoded file cannot be resumed"
    site.files["c.csv"] = b"\x0b\x02\x80?\x03"
    site.headers["c.csv"] = {"Content-Encoding": "br"}
    manifest = fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert manifest.counts.reasons == {"bad_encoding": 1}


@pytest.mark.parametrize("label", ["UTF-8", "none", "binary", "aws-chunked", "gzip", "br", "deflate"])
def test_unknown_or_false_content_encodings_are_ignored(crawl: Dataset, site: CsvSite, label: str) -> None:
    site.files = {"a.csv": b"URL|TEXT\nhttp://a.test/1|one\n"}
    site.headers = {"a.csv": {"Content-Encoding": label}}
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert content(crawl) == site.files


def test_a_directory_page_may_be_gzipped_and_answer_203(crawl: Dataset, site: CsvSite) -> None:
    site.files = {"a.csv": b"one", "": gzip.compress(b'<a href="a.csv">a.csv</a>')}
    site.pages = {"": ("text/html", site.files.pop(""))}
    site.headers = {"": {"Content-Encoding": "gzip"}}
    site.status = 203
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert content(crawl) == {"a.csv": b"one"}


def test_hundred_parallel_downloads_reuse_their_connections(crawl: Dataset, site: CsvSite) -> None:
    site.files = {f"{number}.csv": b"x" * 1_000 for number in range(150)}
    site.hold_until = 100
    patient = replace(crawl, csv=replace(crawl.csv, timeout_s=30.0))
    fetch_raw_csv(patient, Store.of(patient), quiet)
    assert site.most_at_once == 100
    assert site.connections <= 116, "100 downloads and up to 16 pages"
    site.most_at_once, site.hold_until, site.pace_s = 0, 0, 0.005
    few = replace(crawl, root=f"{crawl.root}-2", csv=replace(crawl.csv, connections_per_host=5))
    fetch_raw_csv(few, Store.of(few), quiet)
    assert site.most_at_once <= 5


def test_full_disk_ends_the_fetch_without_retries(
    crawl: Dataset, site: CsvSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Download, piece: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Download, "write", full)
        with pytest.raises(SourceError, match="No space left on device"):
            fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert all(count <= 1 for count in Counter(each.path for each in site.requests).values()), "it was tried again"
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert content(crawl) == {path: FILES[path] for path in TABLES}


def test_transient_errors_are_retried_and_permanent_ones_are_not(crawl: Dataset, site: CsvSite) -> None:
    site.statuses = {"2021-01/a.csv": [503, 429], "2021-02/": [500]}
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    site.files["2021-03/new.csv"] = b"new"
    site.statuses = {"2021-03/new.csv": [403]}
    site.requests.clear()
    with pytest.raises(SourceError, match=r"2021-03/new\.csv: the server answered 403"):
        fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert Counter(request.status for request in site.requests)[403] == 1
    assert set(content(crawl)) == TABLES


def test_listed_file_that_answers_404_is_counted(crawl: Dataset, site: CsvSite) -> None:
    site.statuses = {"2021-01/a.csv": [404]}
    manifest = fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert manifest.counts.reasons == {"deleted_404": 1, "other_pattern": 1}
    assert set(content(crawl)) == TABLES - {"2021-01/a.csv"}


def test_redirects_stay_on_http(crawl: Dataset, site: CsvSite) -> None:
    site.redirects = {"/crawl/2021-01/a.csv": "/crawl/2021-02/a__b.csv"}
    fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert content(crawl)["2021-01/a.csv"] == b"one"
    for target in ("file:///etc/passwd", "ftp://127.0.0.1/x"):
        logged: list[str] = []
        site.redirects = {"/crawl/2021-01/a.csv": target}
        fetch_raw_csv(crawl, Store.of(crawl), logged.append)
        assert content(crawl)["2021-01/a.csv"] == b"one"
        assert any("kept the committed file: 2021-01/a.csv: unsupported_scheme" in line for line in logged)


def test_validators_of_a_redirected_file_are_sent_to_its_host_only(crawl: Dataset, site: CsvSite) -> None:
    site.files |= {"cdn/real.csv": b"x" * 90_000}
    site.redirects = {"/crawl/2021-01/a.csv": "http://cdn.test/crawl/cdn/real.csv"}
    site.cuts = {"cdn/real.csv": [40_000]}
    named = replace(
        crawl, source="http://a.test/crawl/2021-01/", resolve={"a.test": site.address, "cdn.test": site.address}
    )
    for asked in ([None, "bytes=40000-"], [None]):
        site.requests.clear()
        fetch_raw_csv(named, Store.of(named), quiet)
        at_source = [request for request in site.requests if request.path.endswith("/a.csv")]
        at_cdn = [request for request in site.requests if request.host == "cdn.test"]
        assert {request.range for request in at_source} == {None}
        assert [request.range for request in at_cdn] == asked
    assert at_cdn[-1].status == 304
    assert content(named)["a.csv"] == b"x" * 90_000


def test_download_below_the_minimum_rate_is_aborted(
    crawl: Dataset, site: CsvSite, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    slow = replace(crawl, csv=replace(crawl.csv, timeout_s=0.5, retries=1))
    started = time.monotonic()
    with pytest.raises(SourceError, match="bytes were received in"):
        fetch_raw_csv(slow, Store.of(slow), quiet)
    assert time.monotonic() - started < 4


def test_resolve_setting_maps_hosts_and_keeps_the_host_header(crawl: Dataset, site: CsvSite) -> None:
    named = replace(crawl, source="http://crawl.test/crawl/", resolve={"*.test": site.address})
    fetch_raw_csv(named, Store.of(named), quiet)
    assert set(content(named)) == TABLES
    assert {request.host for request in site.requests} == {"crawl.test"}


def test_local_folder_is_a_source(dataset: Dataset, tmp_path: Path) -> None:
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


def test_source_and_root_in_a_memory_file_system(dataset: Dataset, tmp_path: Path) -> None:
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.pipe_file("/in/2021/a.csv", b"abc")
    remote = replace(dataset, source="memory://in", root=f"memory://{tmp_path.name}")
    remote = replace(remote, csv=replace(remote.csv, partial_folder=str(tmp_path / "partial")))
    first = fetch_raw_csv(remote, Store.of(remote), quiet)
    assert content(remote) == {"2021/a.csv": b"abc"}
    assert fetch_raw_csv(remote, Store.of(remote), quiet) == first


def test_source_and_root_in_an_object_store(dataset: Dataset, tmp_path: Path, object_store: str) -> None:
    """From bucket to bucket. Unfinished downloads are on this machine's disk."""
    import fsspec

    fs, base = fsspec.core.url_to_fs(f"{object_store}/{tmp_path.name}")
    files = {f"2021/{number}.csv": b"x" * number for number in range(1, 9)}
    for path, body in files.items():
        fs.pipe_file(f"{base}/in/{path}", body)
    settings = replace(dataset.csv, partial_folder=str(tmp_path / "partial"), retries=0)
    crawl = replace(dataset, source=f"s3://{base}/in", root=f"s3://{base}/out", csv=settings)
    first = fetch_raw_csv(crawl, Store.of(crawl), quiet)
    assert content(crawl) == files
    fs.pipe_file(f"{base}/in/2022/new.csv", b"new")
    fs.pipe_file(f"{base}/in/2021/3.csv", b"abc")
    fs.rm_file(f"{base}/in/2021/4.csv")
    manifest = fetch_raw_csv(crawl, Store.of(crawl), quiet)
    changes = {**NO_CHANGES, "new": 1, "changed": 1, "unchanged": 6, "deleted_kept": 1}
    assert manifest.details["changes"] == changes
    assert content(crawl) == files | {"2022/new.csv": b"new", "2021/3.csv": b"abc"}
    assert first.entry("4.csv") == manifest.entry("4.csv")


def test_source_that_is_empty_unset_or_missing_is_refused(crawl: Dataset, site: CsvSite) -> None:
    site.files = {"readme.txt": b""}
    with pytest.raises(SourceError, match=r"csv\.pattern"):
        fetch_raw_csv(crawl, Store.of(crawl), quiet)
    with pytest.raises(SettingError, match="source"):
        fetch_raw_csv(replace(crawl, source=""), Store.of(crawl), quiet)
    with pytest.raises(SourceError, match="Cannot list the source /no/such/folder"):
        fetch_raw_csv(replace(crawl, source="/no/such/folder"), Store.of(crawl), quiet)


def test_only_one_process_fetches_at_a_time(crawl: Dataset) -> None:
    other = Partials(Path(Store.of(crawl).url) / PARTIAL_FOLDER)
    with pytest.raises(LeaseError, match="Another process is fetching"):
        fetch_raw_csv(crawl, Store.of(crawl), quiet)
    other.close()
    fetch_raw_csv(crawl, Store.of(crawl), quiet)


def test_manifest_has_the_version_that_the_server_reported(crawl: Dataset) -> None:
    manifest = fetch_raw_csv(crawl, Store.of(crawl), quiet)
    url, etag, _, size = json.loads(manifest.to_json())["details"]["origins"]["raw_csv/2021-01/a.csv"]
    assert (url, etag[0], size) == (f"{crawl.source}2021-01/a.csv", '"', 50_009)
