"""The metadata of committed shards, one shard at a time: the columns of its parquet file, and `clip_similarity`.

`clip_similarity` comes from the metadata of the embeddings, joined by uid; it is null where no embedding exists.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import SAMPLES_PER_SHARD_KEY, EmbeddingNumber, ShardNumber
from laion_assets.errors import ExportError, IncompleteError
from laion_assets.search.results.safety_model import SafetyModel
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS, ImageShards
from laion_assets.stages.knn_indices.inputs import ClipEmbeddings
from laion_assets.store.manifest import FileEntry, Manifest, read_manifest
from laion_assets.store.store import Store
from laion_assets.store.stored_parquet import open_parquet
from laion_assets.tables.vector_file import read_rows

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

CLIP_SIMILARITY = "clip_similarity"
SEARCH_SIMILARITY = "search_similarity"
"""The cosine similarity to the text of `--search`, a column of exports by search."""


@dataclass(frozen=True)
class CommittedShard:
    """A committed shard: its number, rows, images, size of the tar and parquet file in bytes, digest of its files."""

    number: ShardNumber
    rows: int
    images: int
    tar_size: int
    parquet_size: int
    content: str


class ShardRows:
    """Reads rows of committed shards, of all or of those in `numbers`. `missing` are those that are not committed.

    Raises IncompleteError if none of the shards is committed, SettingError for an unusable safety model.
    """

    def __init__(self, dataset: Dataset, numbers: Sequence[ShardNumber] | None = None) -> None:
        self.dataset = dataset
        self.store = Store.of(dataset)
        self.safety = SafetyModel.of(dataset)
        self.shards: list[CommittedShard] = []
        self.missing: list[ShardNumber] = []
        for number in dataset.layout.shard_numbers if numbers is None else numbers:
            manifest = read_manifest(self.store, IMAGE_SHARDS, dataset.layout.shard_key(number))
            if manifest is None:
                self.missing.append(number)
            else:
                self.shards.append(self._describe(number, manifest))
        if not self.shards:
            raise IncompleteError(
                f"No partition of {dataset.name}/{IMAGE_SHARDS} is committed in {self.store.url}, so there is nothing "
                "to export. Materialize it first."
            )
        self._contents = {shard.number: shard.content for shard in self.shards}
        self.embeddings: dict[EmbeddingNumber, Manifest] = {}
        for embedding in sorted({dataset.layout.embedding_of_shard(shard.number) for shard in self.shards}):
            found = read_manifest(self.store, ClipEmbeddings.asset, dataset.layout.embedding_key(embedding))
            if found is not None:
                self.embeddings[embedding] = found

    def _describe(self, number: ShardNumber, manifest: Manifest) -> CommittedShard:
        tar, parquet = (manifest.entry(self.path(number, suffix)) for suffix in (".tar", ".parquet"))
        counts = manifest.counts
        return CommittedShard(number, counts.rows_in, counts.rows_out, tar.size, parquet.size, manifest.content)

    def path(self, shard: ShardNumber, suffix: str) -> str:
        """Return the path of a file of a shard, relative to the store."""
        return ImageShards.path(self.dataset.layout, shard, suffix)

    @cached_property
    def shard_schema(self) -> "pa.Schema":
        """The columns of the shards' parquet files: those of the first committed one."""
        import pyarrow.parquet as pq

        first = self.shards[0].number
        with open_parquet(self.store, self.manifest(first), self.path(first, ".parquet")) as file:
            return pq.read_schema(file).remove_metadata()

    @cached_property
    def schema(self) -> "pa.Schema":
        """All columns of a row: those of the shards, and `clip_similarity` if any embeddings are committed."""
        import pyarrow as pa

        if not self.embeddings:
            return self.shard_schema
        return self.shard_schema.append(pa.field(CLIP_SIMILARITY, pa.float32()))

    def manifest(self, shard: ShardNumber) -> Manifest:
        """Return the manifest of a shard. Raises ExportError if the shard was committed again since the start."""
        manifest = ImageShards(self.store, self.dataset.layout, ()).manifest(shard)
        if hasattr(self, "_contents") and manifest.content != self._contents[shard]:
            raise ExportError(
                f"Shard {manifest.key} of {self.dataset.name}/{IMAGE_SHARDS} was committed again during the export. "
                "Run the export again, to a new folder."
            )
        return manifest

    def read(self, shard: ShardNumber, columns: list[str]) -> "pa.Table":
        """Return these columns of all rows of a shard, in the order of its parquet file.

        A column that this shard does not have is null. Raises IntegrityError if the file was altered, ExportError if a
        column has another type than in the first shard.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        with open_parquet(self.store, self.manifest(shard), self.path(shard, ".parquet")) as file:
            parquet = pq.ParquetFile(file)
            stored = parquet.schema_arrow.names
            needed = {*columns, "uid"} if CLIP_SIMILARITY in columns else set(columns)
            table = parquet.read([name for name in stored if name in needed], use_threads=False)
            rows = parquet.metadata.num_rows
        arrays = []
        for name in columns:
            kind = self.schema.field(name).type
            if name == CLIP_SIMILARITY and name not in stored:
                arrays.append(self._clip_similarity(shard, table["uid"]))
            elif name in stored:
                arrays.append(self._cast(shard, name, table[name], kind))
            else:
                arrays.append(pa.nulls(rows, kind))
        return pa.table(arrays, schema=pa.schema([self.schema.field(name) for name in columns]))

    def _cast(self, shard: ShardNumber, name: str, column: "pa.ChunkedArray", kind: "pa.DataType") -> "pa.ChunkedArray":
        import pyarrow as pa

        try:
            return column.cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ExportError(
                f"The column {name} of {self.store.address(self.path(shard, '.parquet'))} is {column.type}, but in the "
                f"first shard it is {kind}: {error}"
            ) from error

    def _clip_similarity(self, shard: ShardNumber, uids: "pa.ChunkedArray") -> "pa.Array":
        """Return the similarity of each row, null without an embedding."""
        import pyarrow as pa
        import pyarrow.compute as pc

        found = self._embedded_rows(shard)
        if found is None or CLIP_SIMILARITY not in found[0].column_names:  # adopted from clip-retrieval
            return pa.nulls(len(uids), pa.float32())
        positions = pc.index_in(uids, value_set=found[0]["uid"])
        return found[0][CLIP_SIMILARITY].cast(pa.float32()).take(positions)

    def image_vectors(self, shard: ShardNumber, uids: "pa.ChunkedArray") -> "tuple[np.ndarray, np.ndarray]":
        """Return the image vectors of rows of a shard, (m, width) float32 of norm 1, and which rows have one.

        The second array is (n,) bool, with m of them true. Raises EmbeddingError for a damaged file.
        """
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        found = self._embedded_rows(shard)
        if found is None:
            return np.empty((0, 0), np.float32), np.zeros(len(uids), bool)
        table, numbers = found
        positions = pc.fill_null(pc.index_in(uids, value_set=table["uid"]), pa.scalar(-1, pa.int32())).to_numpy()
        rows = numbers[positions[positions >= 0]]
        path = ClipEmbeddings.path(self.dataset.layout, self.dataset.layout.embedding_of_shard(shard), "img_emb")
        with self.store.open(path) as file:
            vectors = read_rows(file, self.store.address(path), rows)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.maximum(norms, 1e-12), positions >= 0

    def _embedded_rows(self, shard: ShardNumber) -> "tuple[pa.Table, np.ndarray] | None":
        """Return uid and `clip_similarity` of the embedded rows near a shard, and their row numbers in the files of the
        embeddings; None if those are not committed. Reads the row groups of this shard only."""
        import numpy as np
        import pyarrow.parquet as pq

        layout = self.dataset.layout
        number = layout.embedding_of_shard(shard)
        manifest = self.embeddings.get(number)
        if manifest is None:
            return None
        path = ClipEmbeddings.path(layout, number, "metadata")
        with open_parquet(self.store, manifest, path) as file:
            footer = _read_footer(self.store, manifest.entry(path))
            parquet = pq.ParquetFile(file, metadata=footer)
            columns = [name for name in ("uid", CLIP_SIMILARITY) if name in parquet.schema_arrow.names]
            first = layout.sample_key(shard, 0)
            last = layout.sample_key(shard, SAMPLES_PER_SHARD_KEY - 1)
            groups = [group for group in range(footer.num_row_groups) if _may_hold(footer, group, first, last)]
            found = parquet.read_row_groups(groups, columns=columns, use_threads=False)
        starts = np.cumsum([0, *(footer.row_group(group).num_rows for group in range(footer.num_row_groups))])
        numbers = [np.arange(starts[group], starts[group + 1]) for group in groups]
        return found, np.concatenate(numbers) if numbers else np.empty(0, np.int64)


@lru_cache(maxsize=16)
def _read_footer(store: Store, entry: FileEntry) -> "pq.FileMetaData":
    """Read the footer of a committed parquet file; the 104 shards of one embedding file use the same."""
    import pyarrow.parquet as pq

    with store.open(entry.path) as file:
        return pq.read_metadata(file)


def _may_hold(footer: "pq.FileMetaData", group: int, first: str, last: str) -> bool:
    """Whether a row group may have a sample key from `first` to `last`, by its statistics."""
    columns = footer.row_group(group)
    for number in range(columns.num_columns):
        column = columns.column(number)
        if column.path_in_schema == "image_path":
            bounds = column.statistics
            return bounds is None or not bounds.has_min_max or (bounds.min <= last and first <= bounds.max)
    return True
