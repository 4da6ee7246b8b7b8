"""A list of URLs as a source."""

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import SourceError
from laion_assets.stages.raw_csv.build import fetch_raw_csv
from laion_assets.stages.raw_csv.handle import RawCsv
from laion_assets.store.store import Store
from laion_assets_tests.stages.dedup_parquet.tables import quiet
from laion_assets_tests.stages.raw_csv.csv_site import CsvSite


def fetch_list(dataset: Dataset, place: object) -> dict[str, bytes]:
    """Fetch the files of a list, and return their contents by path."""
    listed = replace(dataset, source=f"list:{place}")
    store = Store.of(dataset)
    fetch_raw_csv(listed, store, quiet)
    return {path.removeprefix("raw_csv/"): store.read_bytes(path) for path in RawCsv.of(dataset).files()}


@pytest.fixture
def crawl(dataset: Dataset, site: CsvSite) -> Dataset:
    """A dataset with two names for the site."""
    site.files = {"1.csv": b"one", "a b/2.csv.gz": b"two", "3.csv": b"three"}
    return replace(dataset, resolve=dict.fromkeys(("a.test", "b.test", "127.0.0.1"), site.address))


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_each_url_is_fetched_below_its_host(crawl: Dataset, site: CsvSite, tmp_path: Path, pack) -> None:  # type: ignore[no-untyped-def]
    lines = [
        "\ufeff# the crawl of January", "", "http://a.test/crawl/1.csv", "  http://a.test/crawl/a%20b/2.csv.gz \r",
        "http://b.test/crawl/1.csv", f"{site.url}3.csv#part", "http://a.test/crawl/1.csv",
    ]  # fmt: skip
    (tmp_path / "urls").write_bytes(pack("\n".join(lines).encode()))
    assert fetch_list(crawl, tmp_path / "urls") == {
        "a.test/crawl/1.csv": b"one",
        "a.test/crawl/a b/2.csv.gz": b"two",
        "b.test/crawl/1.csv": b"one",
        f"127.0.0.1_{site.port}/crawl/3.csv": b"three",
    }


def test_list_over_http_and_in_another_file_system(crawl: Dataset, site: CsvSite) -> None:
    import fsspec

    site.files["urls.txt"] = b"http://a.test/crawl/3.csv\n"
    assert fetch_list(crawl, f"{site.url}urls.txt") == {"a.test/crawl/3.csv": b"three"}
    fsspec.filesystem("memory").pipe_file("/lists/urls.txt", b"http://b.test/crawl/3.csv\n")
    assert "b.test/crawl/3.csv" in fetch_list(crawl, "memory://lists/urls.txt")


def test_urls_that_differ_only_in_their_query_get_distinct_files(crawl: Dataset, site: CsvSite, tmp_path: Path) -> None:
    site.files |= {"get?f=1.csv": b"first", "get?f=2.csv": b"second", "3.csv?v=2": b"signed"}
    (tmp_path / "urls").write_text(
        "".join(f"http://a.test/crawl/{name}\n" for name in ("get?f=1.csv", "get?f=2.csv", "3.csv", "3.csv?v=2"))
    )
    found = fetch_list(crawl, tmp_path / "urls")
    assert sorted(found.values()) == [b"first", b"second", b"signed", b"three"]
    assert all(path.endswith(".csv") for path in found)


def test_invalid_lines_are_reported_by_number_before_anything_is_fetch_list(
    crawl: Dataset, site: CsvSite, tmp_path: Path
) -> None:
    wrong = [
        "ftp://a.test/1.csv", "a.csv", "http:///1.csv", "http://a.test:99999/1.csv", "http://a.test/a b.csv",
        "http://a.test/..%2f..%2f1.csv", "http://a.test/%2e%2e/1.csv", "http://a.test/a%00.csv", "http://[/1.csv",
        f"http://a.test/{'x' * 300}.csv", f"http://a.test/{'x/' * 5000}1.csv",
    ]  # fmt: skip
    (tmp_path / "urls").write_text("\n".join(["http://a.test/crawl/1.csv", *wrong]))
    with pytest.raises(SourceError) as raised:
        fetch_list(crawl, tmp_path / "urls")
    message = str(raised.value)
    assert f"{len(wrong)} lines of {tmp_path}/urls" in message
    assert [f"line {number}:" in message for number in range(1, 14)] == [False, *[True] * 10, False, False]
    assert "and 1 more" in message
    assert site.requests == []


def test_urls_that_do_not_match_the_pattern_are_counted(crawl: Dataset, tmp_path: Path) -> None:
    (tmp_path / "urls").write_text("http://a.test/crawl/1.csv\nhttp://a.test/readme.txt\n")
    manifest = fetch_raw_csv(replace(crawl, source=f"list:{tmp_path}/urls"), Store.of(crawl), quiet)
    assert (manifest.counts.rows_in, manifest.counts.reasons) == (2, {"other_pattern": 1})


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "Cannot read the list"), (b"\x1f\x8bbroken", "is damaged"), (b"# nothing\n", "No file of the source")],
)
def test_missing_damaged_and_empty_lists_are_refused(
    crawl: Dataset, tmp_path: Path, content: bytes | None, expected: str
) -> None:
    if content is not None:
        (tmp_path / "urls").write_bytes(content)
    with pytest.raises(SourceError, match=expected):
        fetch_list(crawl, tmp_path / "urls")
