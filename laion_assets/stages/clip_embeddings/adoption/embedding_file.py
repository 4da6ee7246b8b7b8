"""One embedding file from the rows of clip-retrieval's files: verify its rows, and commit them as a partition.

The vectors are linked if clip-retrieval's file has exactly our rows in our order, otherwise its rows are copied in the
order of the shards. The metadata is always written anew from the shards, with the columns of our own files.
"""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import EmbeddingNumber, ShardNumber
from laion_assets.stages.adoption import REARRANGED, SourceFile, describe_source, digests_of, stage_source
from laion_assets.stages.clip_embeddings.adoption.rows import ShardRows, match_rows
from laion_assets.stages.clip_embeddings.adoption.source_file import EmbeddingSource
from laion_assets.stages.clip_embeddings.build import count_rows
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS, ClipEmbeddings
from laion_assets.stages.clip_embeddings.metadata_file import MetadataWriter
from laion_assets.stages.clip_embeddings.stage import STAGE
from laion_assets.store.manifest import ADOPTED, Counts, Manifest
from laion_assets.store.store import Store
from laion_assets.store.transaction import Transaction, open_transaction
from laion_assets.tables.vector_file import VectorWriter

if TYPE_CHECKING:
    import numpy as np

PROGRAM = "clip-retrieval"
VECTORS = ("img_emb", "text_emb")


@dataclass(frozen=True)
class VerifiedEmbeddings:
    """An embedding file that can be adopted.

    `shards` has the source of each shard's rows, None for a shard without images. `model` is the identity of the model
    whose vectors these are, `inputs` the digest of the shards. `in_order` is True if there is one source with exactly
    these rows in this order.
    """

    dataset: Dataset
    folder: Path
    embedding: EmbeddingNumber
    shards: dict[ShardNumber, EmbeddingSource | None]
    counts: Counts
    inputs: str
    model: str
    in_order: bool

    @property
    def key(self) -> str:
        """The key of the partition."""
        return self.dataset.layout.embedding_key(self.embedding)

    @property
    def number(self) -> int:
        """The number of the partition."""
        return self.embedding

    @property
    def size(self) -> int:
        """The size of the vectors of its rows, in bytes."""
        return self.counts.rows_out * self._distinct_sources()[0].width * 2 * len(VECTORS)

    @property
    def sources(self) -> dict[str, str]:
        """The sha256 of each source file, by its path in the folder."""
        files: list[SourceFile] = [file for each in self._distinct_sources() for file in each.sources.values()]
        return digests_of(self.folder, files)

    @property
    def note(self) -> str:
        """That the vectors are copied, and why."""
        if self.in_order:
            return ""
        used = ", ".join(source.number for source in self._distinct_sources()[:5])
        return f"its vectors are copied, because its rows are not those of one file in the order of the shards ({used})"

    def commit(self, store: Store, copy: bool) -> Manifest:
        """Link, copy or rearrange the vectors, write the metadata, and commit the three files.

        Raises AdoptionError if a source file was changed after it was verified.
        """
        layout = self.dataset.layout
        width = self._distinct_sources()[0].width
        with open_transaction(store, CLIP_EMBEDDINGS, self.key) as transaction:
            method = self._stage_vectors(transaction, copy)
            metadata = transaction.stage(ClipEmbeddings.path(layout, self.embedding, "metadata"))
            with contextlib.ExitStack() as stack:
                writer = stack.enter_context(MetadataWriter(metadata))
                vectors = {
                    kind: stack.enter_context(
                        VectorWriter(transaction.stage(ClipEmbeddings.path(layout, self.embedding, kind)), width)
                    )
                    for kind in (() if self.in_order else VECTORS)
                }
                for shard, source in self.shards.items():
                    matched = match_rows(store, layout, shard, source)
                    found = read_vectors(matched)
                    for kind, target in vectors.items():
                        target.append(found[kind])
                    writer.append(matched.table, _similarity(matched, found), matched.kept)
            rows = count_rows(transaction, self.dataset, self.embedding, width)
            return transaction.commit(
                Counts(self.counts.rows_in, rows, self.counts.reasons),
                settings=STAGE.adopted_digest(self.dataset),
                inputs=self.inputs,
                details={
                    "model": self.model,
                    "width": width,
                    "dtype": "float16",
                    "shards": [layout.shard_key(shard) for shard in self.shards],
                    ADOPTED: describe_source(PROGRAM, self.folder, method, self.sources),
                },
            )

    def _stage_vectors(self, transaction: Transaction, copy: bool) -> str:
        if not self.in_order:
            return REARRANGED
        (source,) = self._distinct_sources()
        methods = [
            stage_source(
                transaction,
                ClipEmbeddings.path(self.dataset.layout, self.embedding, kind),
                source.sources[kind],
                copy,
            )
            for kind in VECTORS
        ]
        return methods[0]

    def _distinct_sources(self) -> list[EmbeddingSource]:
        return list(dict.fromkeys(source for source in self.shards.values() if source is not None))


def read_vectors(matched: ShardRows) -> "dict[str, np.ndarray]":
    """Return the vectors of the kept rows of a shard, by kind: (k, width), float16 as stored if their norm is 1.

    Vectors of another norm, within the limits of a file of clip-retrieval, are float32 of norm 1.
    """
    import numpy as np

    source, found = matched.source, {}
    for kind in VECTORS:
        if source is None:
            found[kind] = np.zeros((0, 1), np.float16)
            continue
        rows = np.array(source.vectors(kind)[matched.rows[matched.kept]])
        if not source.is_unit and len(rows):
            wide = rows.astype(np.float32)
            rows = wide / np.linalg.norm(wide, axis=1, keepdims=True)
        found[kind] = rows
    return found


def _similarity(matched: ShardRows, found: "dict[str, np.ndarray]") -> "np.ndarray":
    """Return the cosine of image and caption of each image of a shard, (m,) float32; 0 for rows that are not kept."""
    import numpy as np

    similarity = np.zeros(len(matched.rows), np.float32)
    if matched.kept.any():
        images, texts = (found[kind].astype(np.float32) for kind in VECTORS)
        similarity[matched.kept] = np.einsum("ij,ij->i", images, texts)
    return similarity
