"""The crawl of the rehearsal has one or two rows for each shard of the full layout, each with an image or a 404."""

import csv
import io
from collections import Counter
from dataclasses import replace

import pytest
from PIL import Image

from laion_assets.dataset.built_in import LAION400M, REHEARSAL
from laion_assets.dataset.identity import compute_uid
from laion_assets.http.fetch import fetch
from laion_assets.reasons import Reason
from laion_assets.sample import rehearsal
from laion_assets.sample.running import running_site
from laion_assets.stages.raw_csv.sources.source import source_url


def test_layout_is_that_of_laion400m() -> None:
    assert replace(REHEARSAL.layout, rows_per_shard=LAION400M.layout.rows_per_shard) == LAION400M.layout


def test_the_tables_hold_every_row_once_and_its_duplicates() -> None:
    rows = [
        row
        for content in rehearsal.csv_files().values()
        for row in csv.DictReader(io.StringIO(content.decode(), newline=""), delimiter="|")
    ]
    found = Counter(int(row["SAMPLE_ID"]) for row in rows)
    assert len(found) == rehearsal.ROWS
    assert {row for row, count in found.items() if count == 2} == set(filter(rehearsal.is_listed_twice, found))
    assert len({compute_uid(row["URL"], row["TEXT"]) for row in rows}) == rehearsal.ROWS


def test_every_shard_gets_one_or_two_rows() -> None:
    layout = REHEARSAL.layout
    uids = [
        compute_uid(rehearsal.build_url(row), rehearsal.choose_scene(row % rehearsal.IMAGES).caption)
        for row in range(rehearsal.ROWS)
    ]
    for parquet, rows in Counter(map(layout.parquet_of_uid, uids)).items():
        shards = len(layout.shards_of_parquet(parquet))
        sizes = {len(layout.rows_of_shard(place, shards, rows)) for place in range(shards)}
        assert sizes == {1, 2}
        layout.check_rows(parquet, rows)


@pytest.mark.parametrize(("row", "reason"), [(1, Reason.SUCCESS), (61_999, Reason.SUCCESS), (97, Reason.HTTP_404)])
def test_site_serves_the_image_of_a_row_or_404(row: int, reason: Reason) -> None:
    with running_site(pages=1) as site:
        fetched = fetch(rehearsal.build_url(row), REHEARSAL.with_resolve(site.resolve).fetch_policy)
    assert fetched.reason is reason
    if reason is Reason.SUCCESS:
        assert Image.open(io.BytesIO(fetched.body)).size == (rehearsal.SIDE, rehearsal.SIDE)


def test_source_is_the_second_listing_of_the_site() -> None:
    assert source_url(REHEARSAL) == "http://crawl.test/rehearsal/"
