"""Directory trees over real HTTP: the whole tree is listed, and nothing outside of it."""

import asyncio
import json
from urllib.parse import urlsplit

import pytest

from laion_assets.errors import SourceError
from laion_assets.http.listings.listing import Listing, list_http, resolve_link
from laion_assets.http.sources import retry
from laion_assets.http.sources.async_client import AsyncClient
from laion_assets.http.sources.source_policy import SourcePolicy
from laion_assets_tests.stages.raw_csv.csv_site import CsvSite

PATTERN = r"\.csv$"


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "FIRST_PAUSE_S", 0.001)


def listing(site: CsvSite, place: str = "", pattern: str = PATTERN) -> Listing:
    async def read() -> Listing:
        policy = SourcePolicy(operator_urls=(site.url,), timeout_s=5.0, per_host=16)
        async with AsyncClient(policy) as source:
            return await list_http(source, f"{site.url}{place}", pattern, 1)

    return asyncio.run(read())


def paths(site: CsvSite, place: str = "", pattern: str = PATTERN) -> list[str]:
    return [listed.path for listed in listing(site, place, pattern).files]


def page(*links: str) -> tuple[str, bytes]:
    return "text/html", "".join(f'<a href="{link}">x</a>\n' for link in links).encode()


def test_folders_are_followed_and_filtered_by_the_whole_path(site: CsvSite) -> None:
    site.files = {"a.csv": b"", "2021/b.csv": b"", "2021/01/c d.csv": b"", "2022/e.csv": b"", "f.txt": b""}
    assert paths(site) == ["2021/01/c d.csv", "2021/b.csv", "2022/e.csv", "a.csv"]
    assert paths(site, pattern=r"^2021/.*\.csv$") == ["2021/01/c d.csv", "2021/b.csv"]
    assert paths(site, "2021/") == ["01/c d.csv", "b.csv"]


def test_all_forms_of_links_into_the_tree_are_followed(site: CsvSite) -> None:
    site.pages[""] = page(
        "a.csv", "./b.csv", "/crawl/c.csv", f"http://{site.address}/crawl/d.csv", f"//{site.address}/crawl/e.csv",
        "sub/../f.csv", "%67.csv", "a.csv#part", "h:1.csv".replace(":", "%3A"),
    )  # fmt: skip
    assert paths(site) == ["a.csv", "b.csv", "c.csv", "d.csv", "e.csv", "f.csv", "g.csv", "h:1.csv"]


def test_links_out_of_the_tree_and_sorting_links_are_ignored(site: CsvSite) -> None:
    site.pages[""] = page(
        "a.csv", "../", "/", "/crawl", "?C=N;O=D", "?C=M&amp;O=A", "b.csv?sort=1", "/other/x.csv", "../x.csv",
        "http://other.test/crawl/x.csv", "https://" + site.address + "/crawl/x.csv", "javascript:x.csv",
        "mailto:x@y.csv", "ftp://h/x.csv", "file:///x.csv", "//[/x.csv", "",
    )  # fmt: skip
    found = listing(site)
    assert [listed.path for listed in found.files] == ["a.csv"]
    assert found.left_out == {}


@pytest.mark.parametrize(
    "href",
    ["..%2f..%2fx.csv", "%2e%2e/x.csv", "%2fetc/x.csv", "a%00.csv", "a%5cb.csv", "a%0ab.csv", "%ff.csv",
     "y" * 300 + ".csv"],
)  # fmt: skip
def test_unsafe_names_are_left_out_and_counted(site: CsvSite, href: str) -> None:
    site.pages[""] = page("a.csv", href)
    found = listing(site)
    assert [listed.path for listed in found.files] == ["a.csv"]
    assert found.left_out == {"unsafe_name": 1}
    assert "unsafe_name" in found.remarks[0]


def test_unsafe_names_in_json_listings_are_left_out(site: CsvSite) -> None:
    names = ["../../x.csv", "/etc/x.csv", "a\\..\\x.csv", "", "..", "a/b.csv"]
    entries = [{"name": name, "type": "file"} for name in ("ok.csv", *names)]
    entries += [{"name": "..", "type": "directory"}, {"name": "../up", "type": "directory"}]
    site.pages[""] = ("application/json", json.dumps(entries).encode())
    found = listing(site)
    assert [listed.path for listed in found.files] == ["a/b.csv", "ok.csv"]
    assert {urlsplit(request.path).path for request in site.requests} == {"/crawl/"}, (
        "a folder out of the tree was read"
    )


def test_folder_that_lists_its_parent_is_left_out_as_a_loop(site: CsvSite) -> None:
    """A symbolic link to a parent: all levels have the same links."""
    for depth in range(6):
        site.pages["self/" * depth] = page("../", "a.csv", "self/", "other/")
        site.pages["self/" * depth + "other/"] = page("../", "b.csv")
    found = listing(site)
    assert [listed.path for listed in found.files] == ["a.csv", "other/b.csv"]
    assert found.left_out == {"listing_loop": 1}


def test_endless_tree_is_followed_to_the_maximum_depth(site: CsvSite) -> None:
    for depth in range(40):
        site.pages["d/" * depth] = page(f"{depth}.csv", "d/")
    found = listing(site)
    assert found.left_out == {"too_deep": 1}
    assert len(found.files) == 17


def test_colliding_names_get_distinct_paths(site: CsvSite) -> None:
    site.pages[""] = page("a.csv", "A.csv", "f.csv", "f.csv/")
    site.pages["f.csv/"] = page("b.csv")
    found = {listed.path: listed.url.removeprefix(site.url) for listed in listing(site).files}
    assert sorted(found.values()) == ["A.csv", "a.csv", "f.csv", "f.csv/b.csv"]
    assert {"A.csv", "f.csv/b.csv"} < found.keys()
    assert len({path.lower() for path in found}) == 4
    assert "f.csv" not in found, "a file in the place of a folder"


def test_deleted_folder_is_counted_and_a_deleted_root_is_refused(site: CsvSite) -> None:
    site.files = {"a.csv": b"", "old/b.csv": b""}
    site.statuses = {"old/": [404]}
    found = listing(site)
    assert [listed.path for listed in found.files] == ["a.csv"]
    assert found.left_out == {"folder_deleted_at_source": 1}
    site.statuses = {"": [404]}
    with pytest.raises(SourceError, match=r"/crawl/: the server answered 404 .*Is the URL a directory listing"):
        listing(site)
    site.statuses = {"old/": [403]}
    with pytest.raises(SourceError, match=r"/crawl/old/: the server answered 403"):
        listing(site)


def test_truncated_page_is_read_again(site: CsvSite) -> None:
    site.files = {f"{number}.csv": b"" for number in range(50)}
    whole = site._send
    cut = [True]

    def send(handler, request, status, headers, body, limit=None) -> None:  # type: ignore[no-untyped-def]
        whole(handler, request, status, headers, body, 40 if cut and cut.pop() else limit)

    site._send = send  # type: ignore[method-assign]
    assert len(paths(site)) == 50


def test_redirect_of_the_root_is_followed(site: CsvSite) -> None:
    site.redirects = {"/crawl/old/": "/crawl/2021/"}
    site.files = {"2021/a.csv": b"", "2021/deep/b.csv": b"", "c.csv": b""}
    assert paths(site, "old/") == ["a.csv", "deep/b.csv"]


def test_url_of_one_file_is_a_source(site: CsvSite) -> None:
    site.files = {"2021/a b.csv": b""}
    assert [(each.path, each.url) for each in listing(site, "2021/a%20b.csv").files] == [
        ("a b.csv", f"{site.url}2021/a%20b.csv")
    ]
    with pytest.raises(SourceError, match="unsafe file name"):
        listing(site, "..%2f.csv")


def test_path_of_a_link_is_decoded_once() -> None:
    assert resolve_link("http://h/d/", "http://h/d/e/", "x%252e.csv") == ("http://h/d/e/x%252e.csv", "e/x%2e.csv")
    assert resolve_link("http://h/d/", "http://h/d/e/", "../../x.csv") is None
