"""Write the three files of an embedding partition, group by group, in a separate thread.

Row i of `img_emb`, `text_emb` and `metadata` is the same sample; samples that are dropped are in none of them.
"""

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from laion_assets.dataset.layout import Layout
from laion_assets.errors import IntegrityError
from laion_assets.stages.clip_embeddings.metadata_file import MetadataWriter
from laion_assets.stages.clip_embeddings.pipeline.groups import GroupVectors
from laion_assets.stages.clip_embeddings.pipeline.shard_preparation import PreparedShard
from laion_assets.tables.vector_file import VectorWriter

if TYPE_CHECKING:
    import pyarrow as pa


class EmbeddingWriter:
    """Appends groups of shards to the staged files of one partition."""

    def __init__(self, layout: Layout, image_path: Path, text_path: Path, metadata_path: Path, width: int) -> None:
        self._layout = layout
        self._images = VectorWriter(image_path, width)
        self._texts = VectorWriter(text_path, width)
        self._metadata = MetadataWriter(metadata_path)
        self._first: PreparedShard | None = None

    def append(self, shards: Sequence[PreparedShard], vectors: GroupVectors) -> None:
        """Append the kept rows of a group. Raises IntegrityError if a shard has other columns than the first one."""
        kept = vectors.kept
        self._images.append(vectors.images[kept])
        self._texts.append(vectors.texts[kept])
        start = 0
        for shard in shards:
            self._check_columns(shard)
            rows = slice(start, start + len(shard.keys))
            self._metadata.append(shard.table, vectors.similarity[rows], kept[rows])
            start = rows.stop

    def _check_columns(self, shard: PreparedShard) -> None:
        if self._first is None:
            self._first = shard
        ours, first = _columns(shard.table), _columns(self._first.table)
        if ours != first:
            raise IntegrityError(
                f"Shards {self._layout.shard_key(shard.shard)} and {self._layout.shard_key(self._first.shard)} have "
                f"different columns ({', '.join(map(str, ours))}; and {', '.join(map(str, first))}): they were built "
                "with different settings. Materialize the older one again."
            )

    def __enter__(self) -> "EmbeddingWriter":
        for writer in (self._images, self._texts, self._metadata):
            writer.__enter__()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for writer in (self._images, self._texts, self._metadata):
            writer.__exit__(kind, error, trace)


def _columns(table: "pa.Table") -> list[tuple[str, str]]:
    return [(field.name, str(field.type)) for field in table.schema]
