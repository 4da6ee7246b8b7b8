"""The metadata parquet beside the vectors: clip-retrieval's columns, row by row the samples of the npy files.

`image_path` (the sample key, as clip-retrieval has it for webdatasets), `caption`, then the flattened json of the
sample: the columns of the shard's parquet in their order and types, whatever the values of a file happen to be. One
row group a shard that has rows, so a row is read without its file.
"""

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from laion_assets.embeddings.shard_reader import ShardSample
from laion_assets.errors import IntegrityError
from laion_assets.layout import SHARD_DIGITS

if TYPE_CHECKING:
    import pyarrow as pa

OWN_COLUMNS = ("image_path", "caption")
_LEFT_OUT = {*OWN_COLUMNS, "metadata"}
"""Columns of the sample's json that clip-retrieval drops."""


def metadata_schema(shard_schema: "pa.Schema") -> "pa.Schema":
    """The columns of an embedding file's metadata, from those of its shards' parquet files."""
    import pyarrow as pa

    own = [pa.field(name, pa.string()) for name in OWN_COLUMNS]
    others = [field for field in shard_schema if field.name not in _LEFT_OUT]
    return pa.schema(
        own + [pa.field(field.name, pa.string() if pa.types.is_null(field.type) else field.type) for field in others]
    )


class MetadataWriter:
    """Appends samples to a metadata parquet, a row group a shard: a sample's key begins with its shard's."""

    def __init__(self, path: Path, schema: "pa.Schema") -> None:
        import pyarrow.parquet as pq

        self.schema = schema
        self.rows = 0
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._pending: list[ShardSample] = []

    def append(self, samples: Sequence[ShardSample]) -> None:
        """Append samples, in the order of their keys. Raises IntegrityError naming the column of an odd value."""
        for shard, own in itertools.groupby(samples, lambda sample: sample.key[:SHARD_DIGITS]):
            if self._pending and self._pending[0].key[:SHARD_DIGITS] != shard:
                self._end_shard()
            self._pending += [ShardSample(s.key, s.uid, b"", s.caption, s.fields) for s in own]

    def _end_shard(self) -> None:
        import pyarrow as pa

        if not self._pending:
            return
        columns = [self._column(field) for field in self.schema]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=self.schema), row_group_size=len(self._pending))
        self.rows += len(self._pending)
        self._pending = []

    def _column(self, field: "pa.Field") -> "pa.Array":
        import pyarrow as pa

        def value_of(sample: ShardSample) -> Any:
            own = {"image_path": sample.key, "caption": sample.caption}
            return own[field.name] if field.name in own else sample.fields.get(field.name)

        as_text = pa.types.is_string(field.type)
        values = [_value(value_of(sample), as_text) for sample in self._pending]
        try:
            return pa.array(values, field.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise IntegrityError(
                f"samples {self._pending[0].key} to {self._pending[-1].key}: {field.name} of their json is not "
                f"{field.type}, as their shard's parquet says ({error}). Materialize that shard again."
            ) from error

    def __enter__(self) -> "MetadataWriter":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._end_shard()
        self._writer.close()


def _value(value: Any, as_text: bool) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    if not as_text or value is None:
        return value
    text = value if isinstance(value, str) else json.dumps(value)
    return text.encode("utf-8", "replace").decode("utf-8")
