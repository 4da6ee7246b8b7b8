"""Files read in place by ranges: the bytes are right, and the guard holds."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import SettingError, SourceError
from laion_assets.http.sources.range_file import open_range_file
from laion_assets.http.sources.source_policy import SourcePolicy
from laion_assets.http.sources.sync_client import read_url
from laion_assets.stages.dedup_parquet.rows.row_filter import RowFilter
from laion_assets.stages.raw_csv.sources.source import open_source
from laion_assets.store.store import Store
from laion_assets_tests.stages.raw_csv.csv_site import CsvSite

BODY = bytes(range(256)) * 9_000


@pytest.fixture
def site() -> Iterator[CsvSite]:
    with CsvSite(files={"a.parquet": BODY}) as running:
        yield running


def policy(site: CsvSite) -> SourcePolicy:
    return SourcePolicy(operator_urls=(site.url,), timeout_s=2.0, retries=1)


def first_byte(url: str, policy: SourcePolicy) -> bytes:
    with open_range_file(url, policy) as (file, _):
        return file.read(1)


def test_any_range_of_a_file_is_read_over_one_connection(site: CsvSite) -> None:
    with open_range_file(f"{site.url}a.parquet", policy(site)) as (file, described):
        assert (described.size, described.version[:1]) == (len(BODY), '"')
        assert file.seek(-10, 2) == len(BODY) - 10
        assert file.read() == BODY[-10:]
        assert file.read(1) == b""
        file.seek(5)
        assert file.read(3) == BODY[5:8]
        file.seek(7)
        assert file.read(2_000_000) == BODY[7:2_000_007]
    assert site.connections == 1
    assert {request.status for request in site.requests} == {206}


def test_file_without_range_support_is_read_completely(site: CsvSite) -> None:
    site.ranges = False
    with open_range_file(f"{site.url}a.parquet", policy(site)) as (file, _):
        assert file.read() == BODY


def test_a_file_that_changes_while_it_is_read_is_an_error(site: CsvSite) -> None:
    with open_range_file(f"{site.url}a.parquet", policy(site)) as (file, _):
        site.files["a.parquet"] = BODY[::-1]
        with pytest.raises(OSError, match="changed while it was read"):
            file.read(10)


@pytest.mark.parametrize("location", ["http://127.0.0.1:1/", "http://127.0.0.1/", "file:///etc/passwd"])
def test_redirect_to_a_private_address_is_refused(site: CsvSite, location: str) -> None:
    site.redirects = {"/crawl/a.parquet": location}
    for read in (first_byte, lambda url, policy: read_url(url, policy, 9)):
        with pytest.raises(SourceError, match=r"blocked_address|unsupported_scheme"):
            read(f"{site.url}a.parquet", policy(site))


def test_hosts_that_the_settings_do_not_name_may_not_be_private(site: CsvSite) -> None:
    with pytest.raises(SourceError, match="blocked_address"):
        read_url(f"{site.url}a.parquet", SourcePolicy(allowed_ports=(site.port,)), 9)


def test_body_over_the_limit_is_refused(site: CsvSite) -> None:
    with pytest.raises(SourceError, match="too_large"):
        read_url(f"{site.url}a.parquet", policy(site), 1_000)


def test_domain_lists_over_http_are_fetched_through_the_guard(site: CsvSite) -> None:
    site.files["blocked.txt"] = b"b.test\n# no\nc.test\n"
    assert RowFilter(blocked_domains=(f"@{site.url}blocked.txt",)).load_lists().blocked_domains == ("b.test", "c.test")
    site.redirects = {"/crawl/blocked.txt": "http://127.0.0.1:1/"}
    with pytest.raises(SettingError, match="blocked_address"):
        RowFilter(blocked_domains=(f"@{site.url}blocked.txt",)).load_lists()


@pytest.mark.parametrize("place", ["simplecache::https://a.test/x/", "zip://a.csv::http://a.test/x.zip"])
def test_fsspec_fetches_nothing_over_http(dataset: Dataset, place: str) -> None:
    with pytest.raises(SettingError, match="not fetched through fsspec"):
        RowFilter(blocked_domains=(f"@{place}",)).load_lists()
    with pytest.raises(SettingError, match="not fetched through fsspec"):
        open_source(replace(dataset, source=place), lambda _: None).__aenter__().send(None)
    with pytest.raises(SettingError, match="not fetched through fsspec"):
        Store(place).size("x")
