"""The crawl tables: counts, CSV dialect, and deterministic bytes."""

import csv
import gzip
import hashlib
import io
import subprocess
import sys
from collections import Counter

import pytest

from laion_assets.sample.crawl import MALFORMED, Crawl, build_crawl, crawl_rows
from laion_assets.sample.csv_files import COLUMNS, CsvFile
from laion_assets.sample.faults import FAULTS
from laion_assets.sample.originals import FORMATS
from laion_assets.sample.pages import PAGES


@pytest.fixture(scope="module")
def crawl() -> Crawl:
    return build_crawl()


def text_of(file: CsvFile) -> str:
    content = gzip.decompress(file.content) if file.trait == "gzip" else file.content
    return content.decode("utf-8-sig")


def test_counts_add_up(crawl: Crawl) -> None:
    counts = crawl.counts
    assert counts.unique == PAGES <= 5_400
    assert 6_300 <= counts.raw <= 6_700
    assert counts.raw == counts.unique + counts.duplicate + counts.left_out + counts.malformed
    assert len({(page.url, page.caption or "") for page in crawl.pages}) == PAGES
    assert sum(page.expected == "success" for page in crawl.pages) > 4_900


def test_each_fault_and_format_is_as_frequent_as_declared(crawl: Crawl) -> None:
    kinds = crawl.kinds
    assert all(kinds[fault.kind] == fault.pages for fault in FAULTS)
    assert all(kinds[name] == form.pages for name, form in FORMATS.items() if name != "jpeg")
    assert sum(fault.pages for fault in FAULTS if fault.slow) <= 80
    assert crawl.malformed == {malformed.kind: malformed.rows for malformed in MALFORMED}


def test_few_names_fail_to_resolve(crawl: Crawl) -> None:
    assert sum(page.kind == "no_such_host" for page in crawl.pages) < len(crawl.pages) / 250


def test_hosts_are_many_and_one_is_busy(crawl: Crawl) -> None:
    hosts = Counter(page.url.split("/")[2] for page in crawl.pages if page.url.startswith("http://photos"))
    assert len(hosts) == 40
    assert hosts.most_common(1)[0][0] == "photos-07.test"
    assert hosts["photos-07.test"] > 0.25 * PAGES


def test_csv_headers_differ_between_files(crawl: Crawl) -> None:
    headers = {file.columns for file in crawl.files if file.columns}
    assert len(headers) >= 10
    assert COLUMNS in headers
    assert any("language" in header for header in headers)
    assert any("LICENSE" not in header for header in headers)
    assert sum("similarity" not in header for header in headers) == 1
    assert {file.trait for file in crawl.files} == {
        "plain",
        "drifted",
        "no_similarity",
        "empty",
        "header_only",
        "bom",
        "crlf",
        "gzip",
    }


def test_well_formed_files_are_read_back_as_their_records(crawl: Crawl) -> None:
    read = 0
    for file in crawl.files:
        if file.malformed or file.trait == "empty":
            continue
        rows = list(csv.reader(io.StringIO(text_of(file), newline=""), delimiter="|"))
        assert tuple(rows[0]) == file.columns
        kept = [{column: row[place] for place, column in enumerate(file.columns)} for row in rows[1:]]
        for row, record in zip(kept, file.records, strict=True):
            assert {column: row[column] for column in row if column in record.fields} == {
                column: value for column, value in record.fields.items() if column in row
            }
            read += 1
    assert read > 1_000


def test_height_and_width_are_swapped_as_in_the_published_tables(crawl: Crawl) -> None:
    record = next(r for f in crawl.files for r in f.records if r.page >= 0 and r.fields["WIDTH"].isdigit())
    page = crawl.pages[record.page]
    assert (record.fields["HEIGHT"], record.fields["WIDTH"]) == tuple(map(str, page.size))


def test_captions_are_of_every_kind(crawl: Crawl) -> None:
    texts = [record.fields["TEXT"] for file in crawl.files for record in file.records]
    for text in ('"', "|", "\n", "&amp;", "赤い", "roter", "круг", "صورة", "\u202e", "<script>", "🔴"):
        assert any(text in caption for caption in texts), text
    assert max(map(len, texts)) == 61_192
    assert any(page.caption is None for page in crawl.pages)


def test_a_smaller_crawl_is_the_beginning_of_the_full_one() -> None:
    assert crawl_rows(40) == crawl_rows()[:40]
    assert build_crawl(40).counts.unique == 40
    with pytest.raises(ValueError, match="between 1 and"):
        crawl_rows(0)


def test_two_processes_build_the_same_bytes(crawl: Crawl) -> None:
    code = (
        "import hashlib; from laion_assets.sample.crawl import build_crawl;"
        "print(hashlib.sha256(b''.join(f.path.encode() + f.content for f in build_crawl().files)).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert other == hashlib.sha256(b"".join(f.path.encode() + f.content for f in crawl.files)).hexdigest()


def test_importing_the_sample_imports_no_heavy_library() -> None:
    heavy = ("torch", "open_clip", "pyspark", "img2dataset", "faiss", "dagster", "pyarrow")
    modules = ", ".join(f"laion_assets.sample.{name}" for name in ("running", "site", "crawl", "clip.model"))
    code = f"import sys, {modules}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
