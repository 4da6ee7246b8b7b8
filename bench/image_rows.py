"""The rows of a benchmark's shards: URLs on many hosts and captions, the same for both engines."""

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from photo_site import PhotoSite
from photographs import Photo

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.identity import compute_uid, rows_digest
from laion_assets.dataset.layout import Layout
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET, DedupParquet
from laion_assets.stages.image_shards.settings import ImageSettings
from laion_assets.stages.status import settings_digest
from laion_assets.store.manifest import Counts
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction
from laion_assets.tables.columns import DEDUP_SCHEMA

_WORDS = ["a", "the", "of", "red", "small", "portrait", "vintage", "harbour", "wooden", "lamp", "2019", "café", "in"]


@dataclass(frozen=True)
class Rows:
    """The rows of one run: one table per shard, with the columns of dedup_parquet."""

    shards: tuple[pa.Table, ...]

    @property
    def count(self) -> int:
        """The number of rows of all shards."""
        return sum(shard.num_rows for shard in self.shards)

    def commit(self, root: Path, resolve: dict[str, str]) -> Dataset:
        """Commit these rows as the dedup_parquet of a new dataset under `root`, the input of our engine."""
        layout = Layout(parquet_files=1, shards=len(self.shards), embedding_files=1, rows_per_shard=10_000)
        dataset = replace(SAMPLE, name="bench", root=str(root), layout=layout, resolve=resolve, images=ImageSettings())
        with open_transaction(Store.of(dataset), DEDUP_PARQUET, "00") as transaction:
            with pq.ParquetWriter(transaction.stage(DedupParquet.path(layout, 0)), DEDUP_SCHEMA) as writer:
                for shard in self.shards:
                    writer.write_table(shard, row_group_size=max(shard.num_rows, 1))
            transaction.commit(
                Counts(self.count, self.count),
                settings=settings_digest(dataset, DEDUP_PARQUET),
                inputs="",
                outputs={layout.shard_key(number): rows_digest(shard) for number, shard in enumerate(self.shards)},
            )
        return dataset

    def write_parquet(self, folder: Path) -> Path:
        """Write one parquet file per shard, so that img2dataset's shards have the same rows. Return the folder."""
        folder.mkdir(parents=True)
        for number, shard in enumerate(self.shards):
            pq.write_table(shard, folder / f"{number:05d}.parquet")
        return folder


def make_rows(site: PhotoSite, scheme: str, photos: list[Photo], count: int, shards: int, seed: int) -> Rows:
    """Return `count` rows in `shards` equal shards. All photos are about equally frequent, on random hosts."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        photo = photos[number % len(photos)]
        url = site.url(scheme, str(rng.choice(site.hosts)), f"{photo.name}?row={number}")
        caption = " ".join(rng.choice(_WORDS, rng.integers(4, 16)))
        rows.append(
            {
                "uid": compute_uid(url, caption),
                "SAMPLE_ID": number,
                "URL": url,
                "TEXT": caption,
                "HEIGHT": photo.height,
                "WIDTH": photo.width,
                "LICENSE": "?" if number % 3 else None,
                "NSFW": "UNLIKELY",
                "similarity": float(rng.uniform(0.28, 0.5)),
                "source_file": "bench.csv",
                "source_row": number + 1,
            }
        )
    rows.sort(key=lambda row: str(row["uid"]))
    bounds = [shard * count // shards for shard in range(shards + 1)]
    return Rows(tuple(pa.Table.from_pylist(rows[start:end], DEDUP_SCHEMA) for start, end in pairwise(bounds)))
