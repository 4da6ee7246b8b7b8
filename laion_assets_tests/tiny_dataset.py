"""A dataset of sixty rows, in 2, 6 and 3 partitions, whose images a site on loopback serves."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout
from laion_assets_tests.stages.dedup_parquet.tables import row, table
from laion_assets_tests.stages.image_shards.images import jpeg
from laion_assets_tests.stages.image_shards.site import answer, running

LAYOUT = Layout(parquet_files=2, shards=6, embedding_files=3, rows_per_shard=50)
ROWS = 60


def tiny_dataset(folder: Path, resolve: dict[str, str]) -> Dataset:
    """The dataset over the CSV files in `folder/csv`, with its files in `folder/data`."""
    return replace(
        SAMPLE,
        name="tiny",
        root=str(folder / "data"),
        source=str(folder / "csv"),
        layout=LAYOUT,
        resolve=resolve,
        images=replace(SAMPLE.images, processes=1, threads=8),
    )


@contextlib.contextmanager
def served_dataset(folder: Path) -> Iterator[Dataset]:
    """The dataset with its CSV file and a running site. No partition is built."""
    (folder / "csv").mkdir()
    pages = {f"/{number}.jpg": answer(jpeg(90, 70, number)) for number in range(ROWS)}
    with running(pages) as site:
        rows = [row(URL=site.url(path), TEXT=f"caption {path}") for path in pages]
        (folder / "csv" / "a.csv").write_bytes(table(rows))
        yield tiny_dataset(folder, site.resolve)
