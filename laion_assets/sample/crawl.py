"""The crawl tables of the sample: CSV files in dated folders, as messy as the published ones and deterministic.

They have the dialect of pandas: separator `|`, minimal quoting, doubled quotes. Headers differ between files. HEIGHT
and WIDTH are swapped, as in the published tables of LAION-400M. The number of rows with each defect is declared, so
that tests can check it.
"""

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from laion_assets.sample.captions import longest_caption
from laion_assets.sample.csv_files import FILES, CsvFile, Record, csv_file
from laion_assets.sample.pages import PAGES, Page, crawl_pages
from laion_assets.tables.row_reasons import Reason

LEFT_OUT_ROWS = 50
"""Rows of each file without a `similarity` column. They are in no other file."""
_SEED = 400_000_000

_ODD_VALUES: tuple[tuple[str, str, int], ...] = (
    ("similarity", "6016.0", 4),
    ("similarity", "nan", 4),
    ("similarity", "inf", 4),
    ("similarity", "", 4),
    ("WIDTH", "-1", 4),
    ("WIDTH", "200.0", 6),
    ("HEIGHT", "1000000000", 4),
    ("HEIGHT", "1e9", 4),
    ("SAMPLE_ID", "n/a", 4),
    ("SAMPLE_ID", "12.5", 4),
    ("SAMPLE_ID", "99999999999999999999999", 3),
)
"""Column, value and number of rows of invalid fields in rows that are otherwise valid."""


@dataclass(frozen=True)
class Malformed:
    """One kind of malformed row: its name, its number in the full crawl, the reason of its quarantine, and its line."""

    kind: str
    rows: int
    reason: Reason
    line: bytes


_CELLS = b"3178000000000|http://photos-00.test/broken/%s.jpg|%s|320|240|?|UNLIKELY|0.31"
MALFORMED: tuple[Malformed, ...] = (
    Malformed(
        "too_few_fields",
        10,
        Reason.WRONG_TOKEN_COUNT,
        b"3178000000001|http://photos-00.test/broken/few.jpg|a red circle",
    ),
    Malformed(
        "too_many_fields", 10, Reason.WRONG_TOKEN_COUNT, _CELLS % (b"many", b"a red circle | a blue square | and more")
    ),
    Malformed("text_after_quote", 4, Reason.BAD_QUOTE, _CELLS % (b"after", b'"a red" circle')),
    Malformed("unclosed_quote", 3, Reason.UNCLOSED_QUOTE, _CELLS % (b"unclosed", b'"a red circle that never ends')),
    Malformed("invalid_utf8", 8, Reason.INVALID_UTF8, _CELLS % (b"utf8", b"a caf\xe9 with a red circle \xff\xfe")),
    Malformed("nul", 4, Reason.NUL_BYTE, _CELLS % (b"nul", b"a red\x00circle")),
    Malformed(
        "no_url", 5, Reason.URL_MISSING, b"3178000000002||a red circle without an address|320|240|?|UNLIKELY|0.31"
    ),
    Malformed(
        "no_host",
        3,
        Reason.URL_WITHOUT_HOST,
        b"3178000000003|http:///broken/host.jpg|a red circle|320|240|?|UNLIKELY|0.31",
    ),
    Malformed("long_url", 1, Reason.URL_TOO_LONG, _CELLS % (b"x" * 10_000, b"a red circle")),
)
"""Lines in the order of `COLUMNS`, only in files with that header. No kind yields a unique row."""


@dataclass(frozen=True)
class CrawlCounts:
    """Files, and rows by outcome; `raw = unique + duplicate + left_out + malformed`."""

    files: int
    raw: int
    unique: int
    duplicate: int
    left_out: int
    malformed: int


@dataclass(frozen=True)
class Crawl:
    """The whole crawl: pages and CSV files."""

    pages: tuple[Page, ...]
    files: tuple[CsvFile, ...]

    @property
    def counts(self) -> CrawlCounts:
        """The number of files, and of rows by outcome."""
        malformed = sum(sum(file.malformed.values()) for file in self.files)
        left_out = sum(len(file.records) for file in self.files if file.left_out)
        valid = sum(len(file.records) for file in self.files if not file.left_out)
        unique = len({record.page for file in self.files if not file.left_out for record in file.records})
        return CrawlCounts(
            files=len(self.files),
            raw=valid + left_out + malformed,
            unique=unique,
            duplicate=valid - unique,
            left_out=left_out,
            malformed=malformed,
        )

    @property
    def malformed(self) -> dict[str, int]:
        """The number of malformed rows by kind."""
        return dict(sum((Counter(file.malformed) for file in self.files), Counter()))

    @property
    def kinds(self) -> dict[str, int]:
        """The number of pages by kind: formats of valid images, and faults."""
        return dict(Counter(page.kind for page in self.pages))


def crawl_rows(pages: int = PAGES) -> tuple[Page, ...]:
    """Return the unique rows of the crawl: pages with `url`, `caption` and `expected` reason."""
    return crawl_pages(pages)


@lru_cache(maxsize=2)
def build_crawl(pages: int = PAGES) -> Crawl:
    """Build the crawl over the first `pages` pages. The bytes of every file depend only on that number."""
    table = crawl_pages(pages)
    rng = np.random.default_rng((_SEED, pages))
    rows = _rows(table, rng)
    traits = _traits()
    valid = [number for number, trait in enumerate(traits) if trait not in ("empty", "header_only", "no_similarity")]
    weights = rng.uniform(0.4, 1.6, size=len(valid))
    homes = rng.choice(valid, size=len(rows), p=weights / weights.sum()).tolist()
    lines = _malformed_lines(rng, [number for number in valid if traits[number] != "drifted"], pages / PAGES)
    files = []
    for number, trait in enumerate(traits):
        records = [row for row, home in zip(rows, homes, strict=True) if home == number]
        if trait == "no_similarity":
            records = _left_out_rows(number, max(1, LEFT_OUT_ROWS * pages // PAGES), rng)
        files.append(csv_file(number, trait, records, lines.get(number, []), rng))
    return Crawl(table, tuple(files))


def _traits() -> list[str]:
    traits = ["drifted" if number % 3 == 1 else "plain" for number in range(FILES)]
    for number, trait in ((5, "empty"), (11, "header_only"), (17, "no_similarity"), (26, "no_similarity")):
        traits[number] = trait
    for number, trait in ((8, "bom"), (14, "crlf"), (21, "gzip")):
        traits[number] = trait
    return traits


def _rows(pages: tuple[Page, ...], rng: np.random.Generator) -> list[Record]:
    """Return the rows in random order: every page once, and a sixth again with other SAMPLE_ID and similarity."""
    odd = [(column, value) for column, value, count in _ODD_VALUES for _ in range(count)]
    plain = [page.index for page in pages if page.kind == "jpeg"]
    odd_of = dict(zip(rng.permutation(plain).tolist(), odd, strict=False))
    long = next((page.index for page in pages if page.kind == "jpeg" and page.index not in odd_of), -1)
    rows = []
    for page in pages:
        first = _record(page, rng)
        if page.index == long:
            first.fields["TEXT"] = longest_caption(page.scene)
        if page.index in odd_of:
            column, value = odd_of[page.index]
            first.fields[column] = value
        rows.append(first)
        if page.index in odd_of or rng.random() >= 1 / 6:
            continue
        for _ in range(int(rng.choice((1, 2, 4), p=(0.8, 0.15, 0.05)))):
            again = _record(page, rng)
            again.fields["TEXT"] = first.fields["TEXT"]
            if rng.random() < 0.25:
                again.fields["similarity"] = first.fields["similarity"]
            rows.append(again)
    return [rows[place] for place in rng.permutation(len(rows)).tolist()]


def _record(page: Page, rng: np.random.Generator) -> Record:
    width, height = page.size
    fields = {
        "SAMPLE_ID": str(int(rng.integers(1_000_000, 5_000_000_000_000))),
        "URL": page.url,
        "TEXT": page.caption or "",
        # Swapped, as in the published tables: an image of 190 x 143 pixels has HEIGHT 190 and WIDTH 143.
        "HEIGHT": str(width),
        "WIDTH": str(height),
        "LICENSE": "?" if rng.random() < 0.9 else "",
        "NSFW": str(rng.choice(("UNLIKELY", "UNSURE", "NSFW"), p=(0.9, 0.07, 0.03))),
        "similarity": repr(float(np.float32(rng.triangular(0.3, 0.31, 0.45)))),
    }
    return Record(page.index, fields)


def _left_out_rows(number: int, count: int, rng: np.random.Generator) -> list[Record]:
    rows = []
    for place in range(count):
        url = f"http://photos-00.test/left-out/{number:02d}-{place:03d}.jpg"
        fields = {"SAMPLE_ID": str(int(rng.integers(1, 10**12))), "URL": url, "TEXT": f"left out {place}"}
        rows.append(Record(-1, fields | {"HEIGHT": "320", "WIDTH": "240", "LICENSE": "?", "NSFW": "UNLIKELY"}))
    return rows


def _malformed_lines(rng: np.random.Generator, homes: list[int], share: float) -> dict[int, list[tuple[str, bytes]]]:
    """Return lines by file number. Unclosed quotes get a file each: before another quote they are another defect."""
    lines: dict[int, list[tuple[str, bytes]]] = {}
    for malformed in MALFORMED:
        count = max(1, round(malformed.rows * share))
        apart = malformed.kind == "unclosed_quote"
        for home in rng.choice(homes, size=count, replace=not apart).tolist():
            lines.setdefault(home, []).append((malformed.kind, malformed.line))
    return lines
