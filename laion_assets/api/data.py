"""Reading committed data: rows, samples and embeddings."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from laion_assets.api.datasets import load_dataset
from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import EmbeddingNumber, ShardNumber
from laion_assets.errors import IntegrityError, LayoutError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


@dataclass(frozen=True)
class Sample:
    """One image with its caption.

    `key` is img2dataset's, `uid` is the row's. `image` is the encoded file (JPEG by default). `fields` is the content
    of the sample's json: URL, sizes, tags.
    """

    key: str
    uid: str
    image: bytes
    caption: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class Embeddings:
    """One embedding file. Row i of all three is one sample.

    `images` and `texts` are (n, d) float16 arrays with rows of norm 1. `metadata` is a table with uid, caption, URL.
    """

    images: "np.ndarray"
    texts: "np.ndarray"
    metadata: "pa.Table"


def read_rows(dataset: Dataset | str, shard: int) -> "pa.Table":
    """Return the rows of `dedup_parquet` that belong to a shard. Reads one row group.

    Raises IncompleteError if the parquet file is not committed, LayoutError for a number that is not a shard.
    """
    from laion_assets.stages.dedup_parquet.handle import DedupParquet

    dataset = load_dataset(dataset)
    return DedupParquet.of(dataset).shard_rows(_shard_number(dataset, shard))


def read_samples(dataset: Dataset | str, shard: int) -> Iterator[Sample]:
    """Yield the samples of a shard in order. Memory holds one at a time.

    Raises IncompleteError if the shard is not committed, IntegrityError for altered or truncated files (what only the
    hash of the whole file shows, after the last sample), LayoutError for a number that is not a shard.
    """
    from laion_assets.stages.clip_embeddings.shard_reader import read_shard
    from laion_assets.stages.image_shards.handle import ImageShards

    dataset = load_dataset(dataset)
    number = _shard_number(dataset, shard)
    shards = ImageShards.of(dataset, (number,))
    for sample in read_shard(shards.store, shards.layout, number, shards.manifest(number)):
        yield Sample(sample.key, sample.uid, sample.image, sample.caption, sample.fields)


def read_embeddings(dataset: Dataset | str, file: int) -> Embeddings:
    """Return the vectors and the metadata of an embedding file, in memory.

    Raises IncompleteError if the file is not committed, EmbeddingError or IntegrityError for altered files, LayoutError
    for a number that is not an embedding file.
    """
    import numpy as np
    import pyarrow.parquet as pq

    from laion_assets.stages.clip_embeddings.handle import ClipEmbeddings
    from laion_assets.store.manifest import disagreement
    from laion_assets.store.stored_parquet import open_parquet
    from laion_assets.tables.vector_file import open_vectors

    dataset = load_dataset(dataset)
    numbers = dataset.layout.embedding_numbers
    if file not in numbers:
        raise LayoutError(f"Invalid embedding file {file!r}: expected {numbers[0]} to {numbers[-1]}.")
    number = EmbeddingNumber(file)
    handle = ClipEmbeddings.of(dataset, (number,))
    manifest = handle.manifest(number)
    if problem := disagreement(handle.store, manifest):
        raise IntegrityError(f"{problem}: materialize partition {manifest.key} of {handle.asset} again.")
    arrays = []
    for kind in ("img_emb", "text_emb"):
        path = ClipEmbeddings.path(handle.layout, number, kind)
        with handle.store.local_copy(path) as local:
            arrays.append(np.array(open_vectors(local, name=handle.store.address(path))))
    with open_parquet(handle.store, manifest, ClipEmbeddings.path(handle.layout, number, "metadata")) as opened:
        metadata = pq.read_table(opened)
    return Embeddings(arrays[0], arrays[1], metadata)


def _shard_number(dataset: Dataset, shard: int) -> ShardNumber:
    numbers = dataset.layout.shard_numbers
    if shard not in numbers:
        raise LayoutError(f"Invalid shard {shard!r}: expected {numbers[0]} to {numbers[-1]}.")
    return ShardNumber(shard)
