"""The hostile crawl: its CSV files by name, and their rows."""

import gzip
import json
from dataclasses import dataclass
from urllib.parse import urlsplit

from laion_assets.reasons import Reason
from laion_assets_tests.hostile.answers import CHUNKED, HEALTHY, HEALTHY_TLS, KINDS, OK, Kind, gzip_zeros, repeat
from laion_assets_tests.stages.dedup_parquet.tables import HEADER, row, table
from laion_assets_tests.stages.image_shards.site import Talk, answer
from laion_assets_tests.stages.raw_csv.test_hostile_source import HOSTILE, INWARD, redirect

COPIES = 4
HEALTHY_ROWS, HEALTHY_TLS_ROWS = 300, 60
FILES = 4
DUPLICATES = 25
MARKUP = ("![x](http://127.0.0.1/leak.png)", "<img src=http://127.0.0.1/>", "\x1b]0;title\x07 \x9b31m", "a\u202eb")
ABSURD_URLS = ("javascript:alert(1)", "data:image/png;base64,AA==", "//nowhere", "http://", "ftp://a.test/b", "")


@dataclass(frozen=True)
class HostileCrawl:
    """The crawl's files and rows.

    `files` are transferred successfully. They contain `rows` (by URL, with kind and allowed reasons), `DUPLICATES` of
    these, and rows that are refused. `pages` are files whose transfer fails.
    """

    files: dict[str, bytes]
    pages: dict[str, Talk]
    rows: dict[str, tuple[str, frozenset[Reason]]]

    @property
    def tls_hosts(self) -> set[str]:
        """Hosts of the rows' https URLs."""
        return {urlsplit(url).netloc for url in self.rows if url.startswith("https:")}

    @property
    def listing(self) -> bytes:
        names = [*self.files, *(path.rpartition("/")[2] for path in self.pages)]
        return json.dumps([{"name": name, "type": "file"} for name in names]).encode()


def hostile_crawl(healthy: bool) -> HostileCrawl:
    """Return the crawl, the same each time. With `healthy`, more than half of its rows are at healthy hosts."""
    rows = {url: (name, kind.reasons) for name, kind, url in _rows(healthy)}
    lines = [row(URL=url, TEXT=f"row {number}") for number, url in enumerate(rows)]
    files = {f"part-{part}.csv": table([*lines[part::FILES]]) for part in range(FILES)}
    files["again.csv"] = table(lines[:DUPLICATES])
    marked = {f"http://healthy-{9_000 + number}.test/healthy.jpg": text for number, text in enumerate(MARKUP)}
    rows |= dict.fromkeys(marked, ("healthy", HEALTHY.reasons))
    files["markup.csv"] = table([row(URL=url, TEXT=text) for url, text in marked.items()])
    files["absurd.csv"] = table([row(URL=url, TEXT="absurd") for url in ABSURD_URLS])
    files["quote.csv"] = HEADER + b'1|"http://a.test/' + b"q" * 300_000
    files["nul.csv"] = HEADER + b"1|http://a.test/\0|a|1|1|?|U|0.3\n"
    files["wide.csv"] = HEADER + b"1|" + b"w" * 3_000_000 + b"\n"
    files["binary.csv"] = bytes(range(256)) * 400
    files["bomb.csv.gz"] = gzip.compress(HEADER) + gzip_zeros(300)
    return HostileCrawl(files, _pages(), rows)


def _rows(healthy: bool) -> list[tuple[str, Kind, str]]:
    kinds = [(name, kind, number) for name, kind in KINDS.items() for number in range(COPIES)]
    if healthy:
        kinds += [("healthy", HEALTHY, number) for number in range(HEALTHY_ROWS)]
        kinds += [("healthy-tls", HEALTHY_TLS, number) for number in range(HEALTHY_TLS_ROWS)]
    return [(name, kind, kind.url.format(kind=name, n=number)) for name, kind, number in kinds]


def _pages() -> dict[str, Talk]:
    pages = [HOSTILE[name] for name in HOSTILE if name != "redirect without a place"]
    pages += [redirect(location.format(port=80)) for location in INWARD]
    pages += [redirect(f"http://{kind}-1.test/latest/meta-data/iam") for kind in ("dns-loopback", "dns-metadata")]
    pages += [repeat(OK + b"\r\n", b"x" * 65_536), repeat(CHUNKED, b"10000\r\n" + b"x" * 65_536 + b"\r\n")]
    pages += [answer(gzip_zeros(200), "200 OK", "Content-Encoding: gzip")]
    return {f"/csv/bad-{number}.csv": page for number, page in enumerate(pages)}
