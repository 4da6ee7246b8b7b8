"""An embedding file recounted from the files themselves, and its rows held against their pictures.

Nothing here trusts the counters of the run that made the file. That row i of each file is the same sample is proved on
a few rows, spread evenly, by encoding their picture and caption again; where a file's hash is not the manifest's, on
all rows, so that the rows that were exchanged can be named.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from laion_assets.dataset.layout import SHARD_DIGITS, EmbeddingNumber, Layout, ShardNumber
from laion_assets.errors import EmbeddingError, IntegrityError, ModelError
from laion_assets.stages.clip_embeddings.build import KINDS, NO_DIRECTION, UNDECODABLE
from laion_assets.stages.clip_embeddings.embedding_file import open_vectors
from laion_assets.stages.clip_embeddings.pipeline.decoding import decode_image
from laion_assets.stages.clip_embeddings.shard_reader import first_difference, read_shard, success_keys, tar_keys
from laion_assets.stages.handles import ClipEmbeddings, ImageShards
from laion_assets.store.manifest import Manifest, disagreement, sha256_of
from laion_assets.store.store import Store

if TYPE_CHECKING:
    import numpy as np

    from laion_assets.stages.clip_embeddings.models.clip_model import ClipModel

MIN_COSINE = 0.999
"""Two encodings of one sample, whatever the device and batch, are at least this near."""
NORM_TOLERANCE = 2e-3
"""How far from 1 the norm of a row may be: the rounding of float16."""
_BLOCK_ROWS = 65_536
_BATCH = 64


@dataclass(frozen=True)
class EmbeddingVerification:
    """What an embedding file holds, counted from npy, parquet and tars; `problems` is empty where all agree."""

    key: str
    image_rows: int
    text_rows: int
    metadata_rows: int
    successes: int
    dropped: int
    rows_encoded_again: int
    lowest_cosine: float | None
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the law holds and every looked-at row is the sample it should be."""
        return not self.problems


def verify_embedding_file(
    store: Store, layout: Layout, embedding: EmbeddingNumber, model: "ClipModel | None" = None, rows: int = 8
) -> EmbeddingVerification:
    """Recount one published embedding file; with a model, encode `rows` of its rows again (0: all) and compare.

    Rows are compared by the embedding file's and the tars' own keys. Raises IncompleteError if the partition is not
    published, ModelError if `model` is another one than the file was made with.
    """
    handle = ClipEmbeddings(store, layout, (embedding,))
    manifest = handle.manifest(embedding)
    if model is not None and manifest.details.get("model") != model.identity:
        raise ModelError(
            f"clip_embeddings {manifest.key} was made with {manifest.details.get('model')} and is to be checked with "
            f"{model.identity}: check with its own model, or materialize it again."
        )
    problems = [problem] if (problem := disagreement(store, manifest)) else []
    width = manifest.details.get("width")
    counted: dict[str, int] = dict.fromkeys(KINDS, -1)
    altered = False
    for kind in KINDS[:2]:
        path = handle.path(layout, embedding, kind)
        try:
            with store.local_copy(path) as local:
                vectors = open_vectors(local, width, store.address(path))
                counted[kind] = len(vectors)
                problems += _off_norm(vectors, path)
                altered |= _is_altered(local, manifest, path)
        except (EmbeddingError, FileNotFoundError) as error:
            problems.append(str(error))
    keys = _metadata_keys(store, handle.path(layout, embedding, "metadata"), problems)
    counted["metadata"] = -1 if keys is None else len(keys)
    successes, expected = _successes(store, layout, embedding, problems)
    dropped = sum(manifest.counts.reasons.get(reason, 0) for reason in (UNDECODABLE, NO_DIRECTION))
    if len(set(counted.values())) != 1:
        problems.append(f"{manifest.key}: rows differ: {', '.join(f'{kind} {n}' for kind, n in counted.items())}")
    elif counted["metadata"] != successes - dropped:
        problems.append(
            f"{manifest.key}: {counted['metadata']} rows, and its shards have {successes} successes of which "
            f"{dropped} were dropped"
        )
    again, lowest = 0, None
    if keys is not None:
        problems += _order_problems(keys, expected, dropped, manifest.key)
        if model is not None and len(set(counted.values())) == 1:
            chosen = _chosen(len(keys), 0 if altered else rows)
            found = _compared(store, layout, embedding, model, keys, chosen, problems)
            again, lowest = len(found), min((min(pair) for pair in found.values()), default=None)
            problems += [
                f"{manifest.key}: row {row} (sample {keys[row]}) does not hold its {noun}'s vector: cosine {value:.4f}"
                for row, pair in sorted(found.items())
                for noun, value in zip(("picture", "caption"), pair, strict=True)
                if not value >= MIN_COSINE
            ][:20]
    if altered:
        problems.append(
            f"{manifest.key}: its vectors were altered after they were published: not the manifest's sha256"
        )
    return EmbeddingVerification(
        key=manifest.key,
        image_rows=counted["img_emb"],
        text_rows=counted["text_emb"],
        metadata_rows=counted["metadata"],
        successes=successes,
        dropped=dropped,
        rows_encoded_again=again,
        lowest_cosine=lowest,
        problems=tuple(dict.fromkeys(problems)),
    )


def _off_norm(vectors: "np.ndarray", path: str) -> list[str]:
    import numpy as np

    for start in range(0, len(vectors), _BLOCK_ROWS):
        norms = np.linalg.norm(vectors[start : start + _BLOCK_ROWS].astype(np.float32), axis=1)
        bad = np.flatnonzero(~(np.abs(norms - 1) <= NORM_TOLERANCE))
        if len(bad):
            return [f"{path}: row {start + bad[0]} has the norm {norms[bad[0]]:.4f} and every row's has to be 1"]
    return []


def _is_altered(local: Path, manifest: Manifest, path: str) -> bool:
    with local.open("rb") as file:
        return sha256_of(file) != manifest.entry(path).sha256


def _metadata_keys(store: Store, path: str, problems: list[str]) -> list[str] | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with store.open(path) as file:
            keys: list[str] = pq.read_table(file, columns=["image_path"])["image_path"].to_pylist()
            return keys
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        problems.append(f"{store.address(path)} cannot be read: {error}")
        return None


def _successes(store: Store, layout: Layout, embedding: EmbeddingNumber, problems: list[str]) -> tuple[int, list[str]]:
    """Successes of the file's shards by their parquet files, and their keys in order."""
    expected: list[str] = []
    for shard in layout.shards_of_embedding(embedding):
        try:
            expected += success_keys(store, layout, shard)
        except (OSError, ValueError) as error:
            problems.append(f"shard {layout.shard_key(shard)}: its parquet cannot be read: {error}")
    return len(expected), expected


def _order_problems(keys: list[str], expected: list[str], dropped: int, name: str) -> list[str]:
    """Metadata has to be the shards' successes in order, but for the dropped ones."""
    difference = first_difference(expected, keys)
    if difference and not (difference.endswith("is missing") and len(expected) - len(keys) == dropped):
        return [f"{name}: metadata: {difference.replace('member', 'sample')}"]
    position = {key: place for place, key in enumerate(expected)}
    for row in range(1, len(keys)):
        if position.get(keys[row], -1) < position.get(keys[row - 1], -1):
            return [f"{name}: metadata row {row} (sample {keys[row]}) is out of the order of the shards"]
    return []


def _chosen(count: int, wanted: int) -> list[int]:
    return (
        list(range(count)) if wanted in (0, count) or wanted > count else [i * count // wanted for i in range(wanted)]
    )


def _compared(
    store: Store,
    layout: Layout,
    embedding: EmbeddingNumber,
    model: "ClipModel",
    keys: list[str],
    chosen: list[int],
    problems: list[str],
) -> dict[int, tuple[float, float]]:
    """(picture's, caption's) cosine of each chosen row with the vectors of its key's sample, encoded again."""
    import numpy as np

    rows_of = {keys[row]: row for row in chosen}
    by_shard: dict[str, list[str]] = {}
    for key in keys:
        by_shard.setdefault(key[:SHARD_DIGITS], []).append(key)
    found: dict[int, tuple[float, float]] = {}
    image_path, text_path = (ClipEmbeddings.path(layout, embedding, kind) for kind in KINDS[:2])
    with store.local_copy(image_path) as images_at, store.local_copy(text_path) as texts_at:
        images, texts = open_vectors(images_at), open_vectors(texts_at)
        for shard in layout.shards_of_embedding(embedding):
            name = layout.shard_key(shard)
            own = by_shard.get(name, [])
            if rows_of.keys().isdisjoint(own):
                continue
            try:
                for row, pictured, captioned in _encoded_again(store, layout, shard, model, rows_of):
                    pair = [np.dot(images[row].astype(np.float32), pictured)]
                    pair.append(np.dot(texts[row].astype(np.float32), captioned))
                    found[row] = (float(pair[0]), float(pair[1]))
            except IntegrityError as error:
                problems.append(str(error))
                continue
            listed = set(own)
            if own != [key for key in tar_keys(store, layout, shard) if key in listed]:
                problems.append(f"shard {name}: its tar's samples are in another order than the metadata's")
    unseen = [row for key, row in rows_of.items() if row not in found]
    if unseen:
        problems.append(f"row {unseen[0]} (sample {keys[unseen[0]]}) is in no tar, or its picture does not decode")
    return found


def _encoded_again(
    store: Store, layout: Layout, shard: ShardNumber, model: "ClipModel", rows_of: dict[str, int]
) -> Iterator[tuple[int, "np.ndarray", "np.ndarray"]]:
    """(row, picture's vector, caption's vector) of the shard's samples among `rows_of`; the whole tar is verified."""
    import torch

    manifest = ImageShards(store, layout, (shard,)).manifest(shard)
    wanted = (sample for sample in read_shard(store, layout, shard, manifest) if sample.key in rows_of)
    while samples := list(itertools.islice(wanted, _BATCH)):
        decoded = [(sample, image) for sample in samples if (image := decode_image(sample.picture)) is not None]
        if not decoded:
            continue
        pictured = model.encode_images(torch.stack([model.preprocess(image) for _, image in decoded]))
        captioned = model.encode_texts([sample.caption for sample, _ in decoded])
        yield from zip([rows_of[sample.key] for sample, _ in decoded], pictured, captioned, strict=True)
