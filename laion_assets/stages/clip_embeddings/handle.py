"""The handle of `clip_embeddings`."""

from dataclasses import dataclass

from laion_assets.dataset.layout import Layout
from laion_assets.stages.handle import Handle

CLIP_EMBEDDINGS = "clip_embeddings"


@dataclass(frozen=True)
class ClipEmbeddings(Handle):
    """clip-retrieval's `img_emb/img_emb_0.npy`, `text_emb/text_emb_0.npy`, `metadata/metadata_0.parquet`."""

    asset = CLIP_EMBEDDINGS

    @staticmethod
    def numbers(layout: Layout) -> range:
        return layout.embedding_numbers

    @staticmethod
    def key(layout: Layout, partition: int) -> str:
        return layout.embedding_key(partition)

    @classmethod
    def paths(cls, layout: Layout, key: str) -> tuple[str, ...]:
        vectors = tuple(f"{CLIP_EMBEDDINGS}/{kind}/{kind}_{key}.npy" for kind in ("img_emb", "text_emb"))
        return (*vectors, f"{CLIP_EMBEDDINGS}/metadata/metadata_{key}.parquet")

    @staticmethod
    def path(layout: Layout, partition: int, kind: str) -> str:
        """Path of an embedding file, relative to the store; kind `img_emb`, `text_emb` or `metadata`."""
        suffix = "parquet" if kind == "metadata" else "npy"
        return f"{CLIP_EMBEDDINGS}/{kind}/{kind}_{layout.embedding_key(partition)}.{suffix}"
