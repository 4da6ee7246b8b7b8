"""The sample's own rows, faults included: this engine and img2dataset without our guard succeed in the same rows."""

import io
import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.reasons import Reason
from laion_assets.sample.faults import FAULT_BY_KIND
from laion_assets.sample.pages import crawl_pages
from laion_assets.sample.running import running_site
from laion_assets.stages.image_shards.build import build_image_shards
from laion_assets_tests.stages.image_shards.shards import committed_files, dataset_of

PAGES_OF_A_KIND = 2
IMAGES = replace(
    SAMPLE.images, engine="img2dataset", threads=64, processes=1, refuse_local_failures=False,
    fetch=replace(SAMPLE.images.fetch, connect_timeout_s=2.0, deadline_s=2.0, retries=0),
)  # fmt: skip
OTHER_REASONS = {"gif": Reason.UNDECODABLE, "one_pixel": Reason.UNDECODABLE, "tiff": Reason.SUCCESS}
"""By kind of page, where img2dataset's decoder (OpenCV alone) differs from ours: no GIF, but TIFF."""
STRICTER = {"tdm_reserved", "robots_expired", "sliver"}
"""Kinds that img2dataset's defaults take and our settings refuse: consent, and the smallest side."""
NOT_ASKED_WITHOUT_LIMITS = {"bomb", "oversized_chunked", "oversized_announced"}
"""img2dataset alone has no deadline and no limit of bytes or pixels: slow kinds and these would take minutes or GBs."""
STOCK = """
import os, socket, sys
from img2dataset.downloader import Downloader
from img2dataset.resizer import Resizer
from img2dataset.writer import WebDatasetSampleWriter

connect = socket.create_connection

def connect_to_site(address, *args, **options):
    if not address[0].endswith(".test"):
        raise ConnectionRefusedError(111, "no other host in a test")
    return connect(("127.0.0.1", int(sys.argv[3])), *args, **options)

socket.create_connection = connect_to_site
os.makedirs(sys.argv[2])
Downloader(
    sample_writer_class=WebDatasetSampleWriter, resizer=Resizer(256, "border", False), thread_count=32,
    save_caption=True, extract_exif=True, output_folder=sys.argv[2], column_list=["caption", "url"], timeout=5.0,
    number_sample_per_shard=10000, oom_shard_count=5, compute_hash="sha256", verify_hash_type=None,
    encode_format="jpg", retries=0, user_agent_token=None,
    disallowed_header_directives=["noai", "noimageai", "noindex", "noimageindex"],
).download_shard((0, sys.argv[1]))
"""


@pytest.fixture(scope="module")
def site():
    with running_site() as running:
        yield running


@pytest.fixture(scope="module")
def rows(site, tmp_path_factory):
    """The rows of two shards of this engine, built in the worker pool."""
    kinds = defaultdict(list)
    for page in crawl_pages():
        kinds[page.kind].append((page.url.replace(" ", "%20"), f"{page.kind} {len(kinds[page.kind])}"))
    asked = [row for pages in kinds.values() for row in pages[:PAGES_OF_A_KIND]]
    dataset = dataset_of(tmp_path_factory.mktemp("shards"), asked, site.resolve, shards=2, images=IMAGES)
    build_image_shards(dataset, range(2), str)
    files = committed_files(dataset)
    tables = [pq.read_table(io.BytesIO(files[f"{shard:05d}.parquet"])) for shard in range(2)]
    found = pa.concat_tables(tables).to_pylist()
    assert [(row["url"], row["caption"]) for row in found] == asked
    return [row | {"kind": row["caption"].split()[0]} for row in found]


def test_every_kind_of_page_ends_as_declared(rows):
    expected = {page.kind: page.expected for page in crawl_pages()} | OTHER_REASONS
    assert {row["kind"]: row["reason"] for row in rows} == expected


def test_successes_are_those_of_img2dataset_alone(rows, site, tmp_path):
    asked = [row for row in rows if row["kind"] not in NOT_ASKED_WITHOUT_LIMITS and not _is_slow(row["kind"])]
    table = pa.table({name: [row[name] for row in asked] for name in ("caption", "url")})
    with pa.ipc.new_file(str(tmp_path / "rows.arrow"), table.schema) as file:
        file.write_table(table)
    script = tmp_path / "stock.py"
    script.write_text(STOCK)
    subprocess.run(
        [sys.executable, str(script), str(tmp_path / "rows.arrow"), str(tmp_path / "stock"), str(site.port)],
        check=True, capture_output=True, env={**os.environ, "NO_ALBUMENTATIONS_UPDATE": "1"}, timeout=120,
    )  # fmt: skip
    stock = {row["caption"]: row for row in pq.read_table(tmp_path / "stock" / "00000.parquet").to_pylist()}
    ours = {row["caption"]: row for row in asked}
    assert stock.keys() == ours.keys()
    other = {
        caption
        for caption, row in ours.items()
        if (row["status"] == "success") != (stock[caption]["status"] == "success")
    }
    assert {caption.split()[0] for caption in other} == STRICTER
    for caption, row in ours.items():
        if row["status"] == "success" and caption not in other:
            assert {name: row[name] for name in ("width", "height", "sha256")} == {
                name: stock[caption][name] for name in ("width", "height", "sha256")
            }


def _is_slow(kind):
    fault = FAULT_BY_KIND.get(kind)
    return fault is not None and fault.slow
