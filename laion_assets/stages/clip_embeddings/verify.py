"""Verify an embedding file: count its rows from the files, and compare rows with their images and captions.

The counters of the run that built the file are not used. To verify that row i of each file is the same sample, a few
evenly spaced rows are encoded again from their image and caption. If the sha256 of a file differs from its manifest,
all rows are encoded, so that exchanged rows can be named.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from laion_assets.dataset.layout import SHARD_DIGITS, EmbeddingNumber, Layout, ShardNumber
from laion_assets.errors import EmbeddingError, IntegrityError, ModelError
from laion_assets.models.images import decode_image
from laion_assets.stages.clip_embeddings.build import KINDS, NO_DIRECTION, UNDECODABLE
from laion_assets.stages.clip_embeddings.handle import ClipEmbeddings
from laion_assets.stages.clip_embeddings.shard_reader import first_difference, read_shard, success_keys, tar_keys
from laion_assets.stages.image_shards.handle import ImageShards
from laion_assets.store.manifest import Manifest, compute_sha256, disagreement
from laion_assets.store.store import Store
from laion_assets.tables.vector_file import open_vectors

if TYPE_CHECKING:
    import numpy as np

    from laion_assets.models.clip_model import ClipModel

MIN_COSINE = 0.999
"""Minimum cosine of two encodings of the same sample, on any device and in any batch."""
ADOPTED_MIN_COSINE = 0.99
"""The same for vectors of another program, which may have used bfloat16. Another model gives far lower ones."""
NORM_TOLERANCE = 2e-3
"""Maximum difference of a row's norm from 1: the rounding of float16."""
_BLOCK_ROWS = 65_536
_BATCH = 64


@dataclass(frozen=True)
class EmbeddingVerification:
    """Counts of an embedding file, from npy, parquet and tars. `problems` is empty if all agree."""

    key: str
    image_rows: int
    text_rows: int
    metadata_rows: int
    successes: int
    dropped: int
    rows_reencoded: int
    lowest_cosine: float | None
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the row-count invariant holds and every compared row is the right sample."""
        return not self.problems


def verify_embedding_file(
    store: Store, layout: Layout, embedding: EmbeddingNumber, model: "ClipModel | None" = None, rows: int = 8
) -> EmbeddingVerification:
    """Verify one committed embedding file; with a model, encode `rows` of its rows again (0: all) and compare.

    Rows are matched by the keys in the embedding file and in the tars. Raises IncompleteError if the partition is not
    committed, ModelError if the file was built with another model than `model`.
    """
    handle = ClipEmbeddings(store, layout, (embedding,))
    manifest = handle.manifest(embedding)
    if model is not None and manifest.details.get("model") != model.identity:
        raise ModelError(
            f"clip_embeddings {manifest.key} was built with the model {manifest.details.get('model')} and cannot be "
            f"verified with {model.identity}. Verify it with its own model, or materialize it again."
        )
    problems = [problem] if (problem := disagreement(store, manifest)) else []
    width = manifest.details.get("width")
    rows_by_kind: dict[str, int] = dict.fromkeys(KINDS, -1)
    is_altered = False
    for kind in KINDS[:2]:
        path = handle.path(layout, embedding, kind)
        try:
            with store.local_copy(path) as local:
                vectors = open_vectors(local, width, store.address(path))
                rows_by_kind[kind] = len(vectors)
                problems += _find_wrong_norm(vectors, path)
                is_altered |= _is_altered(local, manifest, path)
        except (EmbeddingError, FileNotFoundError) as error:
            problems.append(str(error))
    keys = _read_metadata_keys(store, handle.path(layout, embedding, "metadata"), problems)
    rows_by_kind["metadata"] = -1 if keys is None else len(keys)
    successes, expected = _read_successes(store, layout, embedding, problems)
    dropped = sum(manifest.counts.reasons.get(reason, 0) for reason in (UNDECODABLE, NO_DIRECTION))
    if len(set(rows_by_kind.values())) != 1:
        problems.append(
            f"{manifest.key}: the numbers of rows differ: "
            + ", ".join(f"{kind} {count}" for kind, count in rows_by_kind.items())
        )
    elif rows_by_kind["metadata"] != successes - dropped:
        problems.append(
            f"{manifest.key}: {rows_by_kind['metadata']:,} rows, but its shards have {successes:,} images and "
            f"{dropped:,} of them were dropped"
        )
    again, lowest = 0, None
    if keys is not None:
        problems += _find_order_problem(keys, expected, dropped, manifest.key)
        if model is not None and len(set(rows_by_kind.values())) == 1:
            chosen = choose_rows(len(keys), 0 if is_altered else rows)
            found = _compare_rows(store, layout, embedding, model, keys, chosen, problems)
            again, lowest = len(found), min((min(pair) for pair in found.values()), default=None)
            problems += [
                f"{manifest.key}: row {row} (sample {keys[row]}) is not the vector of its {noun}: cosine {value:.4f}"
                for row, pair in sorted(found.items())
                for noun, value in zip(("image", "caption"), pair, strict=True)
                if not value >= (ADOPTED_MIN_COSINE if manifest.is_adopted else MIN_COSINE)
            ][:20]
    if is_altered:
        problems.append(
            f"{manifest.key}: the vectors were altered after the commit: their sha256 differs from the manifest"
        )
    return EmbeddingVerification(
        key=manifest.key,
        image_rows=rows_by_kind["img_emb"],
        text_rows=rows_by_kind["text_emb"],
        metadata_rows=rows_by_kind["metadata"],
        successes=successes,
        dropped=dropped,
        rows_reencoded=again,
        lowest_cosine=lowest,
        problems=tuple(dict.fromkeys(problems)),
    )


def _find_wrong_norm(vectors: "np.ndarray", path: str) -> list[str]:
    import numpy as np

    for start in range(0, len(vectors), _BLOCK_ROWS):
        norms = np.linalg.norm(vectors[start : start + _BLOCK_ROWS].astype(np.float32), axis=1)
        bad = np.flatnonzero(~(np.abs(norms - 1) <= NORM_TOLERANCE))
        if len(bad):
            return [f"{path}: row {start + bad[0]} has norm {norms[bad[0]]:.4f}, expected 1"]
    return []


def _is_altered(local: Path, manifest: Manifest, path: str) -> bool:
    with local.open("rb") as file:
        return compute_sha256(file) != manifest.entry(path).sha256


def _read_metadata_keys(store: Store, path: str, problems: list[str]) -> list[str] | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with store.open(path) as file:
            keys: list[str] = pq.read_table(file, columns=["image_path"])["image_path"].to_pylist()
            return keys
    except (OSError, pa.ArrowInvalid, KeyError) as error:
        problems.append(f"{store.address(path)} cannot be read: {error}")
        return None


def _read_successes(
    store: Store, layout: Layout, embedding: EmbeddingNumber, problems: list[str]
) -> tuple[int, list[str]]:
    """Count the images of the file's shards from their parquet files; returns the keys in order, too."""
    expected: list[str] = []
    for shard in layout.shards_of_embedding(embedding):
        try:
            expected += success_keys(store, layout, shard)
        except (OSError, ValueError) as error:
            problems.append(f"shard {layout.shard_key(shard)}: its parquet cannot be read: {error}")
    return len(expected), expected


def _find_order_problem(keys: list[str], expected: list[str], dropped: int, name: str) -> list[str]:
    """Find the first difference of the metadata's keys from the shards' images in order, less the dropped ones."""
    difference = first_difference(expected, keys)
    if difference and not (difference.endswith("is missing") and len(expected) - len(keys) == dropped):
        return [f"{name}: metadata: {difference.replace('member', 'sample')}"]
    position = {key: place for place, key in enumerate(expected)}
    for row in range(1, len(keys)):
        if position.get(keys[row], -1) < position.get(keys[row - 1], -1):
            return [f"{name}: metadata row {row} (sample {keys[row]}) is not in the order of the shards"]
    return []


def choose_rows(count: int, wanted: int) -> list[int]:
    """Return `wanted` evenly spaced rows of `count`; all rows if `wanted` is 0."""
    return (
        list(range(count)) if wanted in (0, count) or wanted > count else [i * count // wanted for i in range(wanted)]
    )


def _compare_rows(
    store: Store,
    layout: Layout,
    embedding: EmbeddingNumber,
    model: "ClipModel",
    keys: list[str],
    chosen: list[int],
    problems: list[str],
) -> dict[int, tuple[float, float]]:
    """Return (image's, caption's) cosine of each chosen row with the vectors of its sample, encoded again."""
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
                for row, image_vector, text_vector in encode_samples(store, layout, shard, model, rows_of):
                    pair = [np.dot(images[row].astype(np.float32), image_vector)]
                    pair.append(np.dot(texts[row].astype(np.float32), text_vector))
                    found[row] = (float(pair[0]), float(pair[1]))
            except IntegrityError as error:
                problems.append(str(error))
                continue
            listed = set(own)
            if own != [key for key in tar_keys(store, layout, shard) if key in listed]:
                problems.append(f"shard {name}: the samples in the tar and in the metadata are in a different order")
    unseen = [row for key, row in rows_of.items() if row not in found]
    if unseen:
        problems.append(f"row {unseen[0]} (sample {keys[unseen[0]]}) is not in any tar, or its image does not decode")
    return found


def encode_samples(
    store: Store, layout: Layout, shard: ShardNumber, model: "ClipModel", rows_of: dict[str, int]
) -> Iterator[tuple[int, "np.ndarray", "np.ndarray"]]:
    """Yield (row, image vector, caption vector) of the shard's samples in `rows_of`; verifies the whole tar."""
    import torch

    manifest = ImageShards(store, layout, (shard,)).manifest(shard)
    wanted = (sample for sample in read_shard(store, layout, shard, manifest) if sample.key in rows_of)
    while samples := list(itertools.islice(wanted, _BATCH)):
        decoded = [(sample, image) for sample in samples if (image := decode_image(sample.image)) is not None]
        if not decoded:
            continue
        image_vector = model.encode_images(torch.stack([model.preprocess(image) for _, image in decoded]))
        text_vector = model.encode_texts([sample.caption for sample, _ in decoded])
        yield from zip([rows_of[sample.key] for sample, _ in decoded], image_vector, text_vector, strict=True)
