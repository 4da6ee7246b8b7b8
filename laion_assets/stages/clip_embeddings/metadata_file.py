"""The metadata parquet file of an embedding file: clip-retrieval's columns; row i is row i of the npy files.

`image_path` (the sample key, as clip-retrieval has it for webdatasets), `caption`, then the columns of the shard's
parquet in their order and types, and last `clip_similarity`, the cosine of image and caption under the model. One row
group for each shard that has rows, so that a row is read without reading the whole file.
"""

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

OWN_COLUMNS = ("image_path", "caption")
SIMILARITY = "clip_similarity"
"""float32: the cosine of a sample's image and caption under the model of the embeddings."""
_LEFT_OUT = {*OWN_COLUMNS, SIMILARITY, "metadata"}
"""Columns of a shard's parquet file that are not copied. clip-retrieval drops `metadata`."""


def metadata_schema(shard_schema: "pa.Schema") -> "pa.Schema":
    """Return the columns of an embedding file's metadata, given those of its shards' parquet files."""
    import pyarrow as pa

    own = [pa.field(name, pa.string()) for name in OWN_COLUMNS]
    others = [field for field in shard_schema if field.name not in _LEFT_OUT]
    copied = [pa.field(field.name, pa.string() if pa.types.is_null(field.type) else field.type) for field in others]
    return pa.schema([*own, *copied, pa.field(SIMILARITY, pa.float32())])


class MetadataWriter:
    """Appends shards to a metadata parquet, each as a row group."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pq.ParquetWriter | None = None

    def append(self, table: "pa.Table", similarity: "np.ndarray", kept: "np.ndarray") -> None:
        """Append the kept rows of a shard: `table` has its rows with an image; (n,) cosines; (n,) bool."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = metadata_schema(table.schema)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, schema, compression="zstd")
        columns = [
            pa.array(similarity, field.type) if field.name == SIMILARITY else _convert_column(table, field)
            for field in schema
        ]
        rows = pa.Table.from_arrays(columns, schema=schema).filter(pa.array(kept))
        if rows.num_rows:
            self._writer.write_table(rows, row_group_size=rows.num_rows)

    def __enter__(self) -> "MetadataWriter":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.close()


def _convert_column(table: "pa.Table", field: "pa.Field") -> "pa.ChunkedArray":
    """Convert a column of a shard's parquet file for the metadata: NaN becomes null, as in json."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = table["key" if field.name == "image_path" else field.name].cast(field.type)
    if pa.types.is_floating(field.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, field.type), column)
    return column
