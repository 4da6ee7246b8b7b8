"""The program that fetches and resizes the rows of a shard: ours or img2dataset, by `images.engine`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import ShardNumber
from laion_assets.stages.image_shards.local_failures.watch import ShardWatch
from laion_assets.stages.image_shards.settings import IMG2DATASET
from laion_assets.stages.image_shards.shard import fetch
from laion_assets.stages.image_shards.shard.fetch import FetchedRows

if TYPE_CHECKING:
    import pyarrow as pa


def fetch_rows(
    dataset: Dataset, shard: ShardNumber, rows: "pa.Table", positions: Sequence[int], folder: Path, watch: ShardWatch
) -> FetchedRows:
    """Fetch rows of a shard with the engine of the settings. An engine is a function with the contract of ours.

    See `shard.fetch.fetch_rows` for arguments and errors.
    """
    engine = fetch.fetch_rows
    if dataset.images.engine == IMG2DATASET:
        from laion_assets.stages.image_shards.img2dataset.engine import fetch_rows as engine
    return engine(dataset, shard, rows, positions, folder, watch)
