"""Match the rows of clip-retrieval's files with the samples of the committed shards."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from laion_assets.dataset.layout import Layout, ShardNumber
from laion_assets.errors import AdoptionError
from laion_assets.models.images import decode_image
from laion_assets.reasons import SUCCESS_STATUS
from laion_assets.stages.clip_embeddings.adoption.source_file import EmbeddingSource
from laion_assets.stages.clip_embeddings.shard_reader import read_shard
from laion_assets.stages.image_shards.handle import ImageShards
from laion_assets.store.manifest import Manifest
from laion_assets.store.store import Store

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


@dataclass(frozen=True, eq=False)
class ShardRows:
    """The images of a shard and their rows in a file of clip-retrieval.

    `table` has the m rows of the shard's parquet file that have an image. `rows` (m,) int64 is the row of each in
    `source`, -1 if it has none. `kept` (m,) bool marks those with usable vectors.
    """

    shard: ShardNumber
    table: "pa.Table"
    source: EmbeddingSource | None
    rows: "np.ndarray"
    kept: "np.ndarray"

    @property
    def keys(self) -> list[str]:
        """The sample keys, in the order of the tar."""
        keys: list[str] = self.table.column("key").to_pylist()
        return keys


def read_images(store: Store, layout: Layout, shard: ShardNumber) -> "pa.Table":
    """Read the rows of a committed shard's parquet file that have an image, in the order of its tar."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with store.open(ImageShards.path(layout, shard, ".parquet")) as file:
        table = pq.read_table(file)
    return table.filter(pc.equal(table.column("status"), SUCCESS_STATUS)).combine_chunks()


def match_rows(store: Store, layout: Layout, shard: ShardNumber, source: EmbeddingSource | None) -> ShardRows:
    """Find the row of each image of a shard. Raises AdoptionError for a row whose sample is not in the shard."""
    import numpy as np
    import pyarrow as pa

    table = read_images(store, layout, shard)
    expected = table.column("key").cast(pa.uint32()).to_numpy()
    rows = np.full(len(expected), -1, np.int64)
    if source is None:
        return ShardRows(shard, table, None, rows, rows >= 0)
    keys, places = source.keys_of_shard(shard)
    found = np.minimum(np.searchsorted(keys, expected), max(len(keys) - 1, 0))
    if len(keys):
        hits = keys[found] == expected
        rows[hits] = places[found[hits]]
    if len(surplus := np.setdiff1d(keys, expected)):
        raise AdoptionError(f"its metadata has the sample {surplus[0]:09d}, which has no image in its shard")
    kept = rows >= 0
    kept[kept] = ~source.directionless[rows[kept]]
    return ShardRows(shard, table, source, rows, kept)


def compare_captions(matched: ShardRows, metadata: "pa.Table") -> None:
    """Compare caption and url of each row with those of its sample. Raises AdoptionError with the first difference."""
    import pyarrow as pa
    import pyarrow.compute as pc

    present = matched.rows >= 0
    theirs = metadata.take(pa.array(matched.rows[present]))
    ours = matched.table.filter(pa.array(present))
    for name in metadata.column_names:
        left, right = (pc.fill_null(each.column(name).cast(pa.string()), "") for each in (theirs, ours))
        differs = pc.not_equal(left, right)
        if pc.any(differs).as_py():
            place = pc.index(differs, True).as_py()
            raise AdoptionError(
                f"the {name} of sample {ours.column('key')[place].as_py()} is {left[place].as_py()!r:.100} in its "
                f"metadata and {right[place].as_py()!r:.100} in its shard: the embeddings are those of other shards"
            )


def count_undecodable(store: Store, layout: Layout, matched: ShardRows, manifest: Manifest) -> int:
    """Count the images of a shard without a row, which clip-retrieval could not decode.

    Raises AdoptionError for an image that does decode, so that its row is missing.
    """
    missing = {key for key, row in zip(matched.keys, matched.rows, strict=True) if row < 0}
    if not missing:
        return 0
    for sample in read_shard(store, layout, matched.shard, manifest):
        if sample.key in missing and decode_image(sample.image) is not None:
            raise AdoptionError(
                f"no file has a row of sample {sample.key}, whose image can be decoded ({len(missing):,} of "
                f"{len(matched.rows):,} rows of shard {manifest.key} are missing)"
            )
    return len(missing)


def columns_of(table: "pa.Table") -> list[str]:
    """Return the names and types of the columns, to compare shards: an embedding file needs the same ones."""
    return [f"{field.name} {field.type}" for field in table.schema]
