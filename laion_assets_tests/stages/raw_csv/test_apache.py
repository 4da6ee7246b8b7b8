"""raw_csv from a real Apache: all formats of directory pages, no file fetched twice, resumption by range."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from hashlib import md5, sha256
from pathlib import Path

import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.stages.raw_csv.build import PARTIAL_FOLDER, fetch_raw_csv
from laion_assets.store.store import Store
from laion_assets_tests.stages.dedup_parquet.tables import quiet
from laion_assets_tests.stages.raw_csv.apache import apache_binary, running_apache
from laion_assets_tests.stages.raw_csv.test_download import content

pytestmark = [
    pytest.mark.apache,
    pytest.mark.skipif(apache_binary() is None, reason="Apache is missing: make test-apache installs it"),
]

FILES = {
    "a.csv": b"URL|TEXT\n" + b"a" * 50_000,
    "2021-01/b c.csv": b"blank",
    "2021-01/deep/\u00e9 & <x>.csv": b"odd signs",
    "2021-01/deep/" + "long-" * 30 + ".csv": b"Apache cuts the name that it shows, not the link",
    "2021-02/100%25.csv": b"per cent",
    "2021-02/q?x=1.csv": b"a question mark in the name",
    "readme.txt": b"no table",
}
FORMS = {
    "list": "-FancyIndexing",
    "fancy": "FancyIndexing",
    "table": "FancyIndexing HTMLTable FoldersFirst SuppressDescription",
    "xhtml": "FancyIndexing HTMLTable XHTML IconsAreLinks NameWidth=12",
}
FETCH = """
import sys, dataclasses
from laion_assets.dataset.built_in import SAMPLE
from laion_assets.store.store import Store
from laion_assets.stages.raw_csv.build import fetch_raw_csv
dataset = dataclasses.replace(SAMPLE, source=sys.argv[1], root=sys.argv[2])
fetch_raw_csv(dataset, Store.of(dataset), print)
"""


@pytest.mark.parametrize("form", list(FORMS))
def test_whole_tree_is_fetched_with_each_format_of_directory_pages(dataset: Dataset, form: str) -> None:
    with running_apache(FILES, FORMS[form]) as apache:
        crawl = replace(dataset, source=apache.url)
        manifest = fetch_raw_csv(crawl, Store.of(crawl), quiet)
        assert content(crawl) == {path: body for path, body in FILES.items() if path.endswith(".csv")}
        assert (manifest.counts.rows_in, manifest.counts.reasons) == (6, {})
        before = len(apache.asked())
        assert fetch_raw_csv(crawl, Store.of(crawl), quiet) == manifest
        again = [asked for asked in apache.asked()[before:] if not asked.path.endswith("/")]
        assert {asked.status for asked in again} <= {304}, "a file that had not changed was sent again"


def test_killed_fetch_requests_only_the_rest_from_apache(dataset: Dataset) -> None:
    files = {"slow/big.csv": b"0123456789" * 150_000, "small.csv": b"x"}
    with running_apache(files, "FancyIndexing") as apache:
        crawl = replace(dataset, source=apache.url)
        process = subprocess.Popen([sys.executable, "-c", FETCH, crawl.source, crawl.root], stdout=subprocess.DEVNULL)
        big = Path(Store.of(crawl).url) / PARTIAL_FOLDER / md5(b"slow/big.csv").hexdigest()
        deadline = time.monotonic() + 60
        while not (big.exists() and big.stat().st_size > 300_000):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        held = big.stat().st_size
        manifest = fetch_raw_csv(crawl, Store.of(crawl), quiet)
        last = [asked for asked in apache.asked() if asked.path.endswith("big.csv")][-1]
        assert (last.status, last.range) == (206, f"bytes={held}-")
        assert last.sent == 1_500_000 - held
        assert content(crawl) == files
        assert manifest.entry("big.csv").sha256 == sha256(files["slow/big.csv"]).hexdigest()
