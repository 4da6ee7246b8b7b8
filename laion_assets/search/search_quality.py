"""Recall of committed indices by kind of query, against exact search, and the latency of a text query by step."""

import contextlib
import io
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import IntegrityError
from laion_assets.models.images import decode_image
from laion_assets.search.index.metadata_rows import MetadataRows
from laion_assets.search.query import Searcher, SearchResult
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.knn_indices.details import INPUTS, IndexDetails
from laion_assets.stages.knn_indices.inputs import ClipEmbeddings, read_coherent_embeddings
from laion_assets.stages.knn_indices.recall import RECALL_AT, exact_kth, recall_at_10, sample_ids
from laion_assets.stages.knn_indices.vectors import FOLDERS, MODALITIES, Vectors, open_all_vectors
from laion_assets.store.manifest import Manifest, read_manifest
from laion_assets.store.store import Store

if TYPE_CHECKING:
    import numpy as np

    from laion_assets.models.clip_model import ClipModel

CROP = 0.05
"""Share of width and height that a near-duplicate loses at each side."""
SCALE = 0.8
"""Size of a near-duplicate relative to the rest."""
QUALITY = 60
"""JPEG quality of a near-duplicate."""
MAX_SAMPLES = 200
MAX_SECONDS = 0.6
"""A step is timed this often or this long, whichever ends first, but at least `_MIN_SAMPLES` times."""
_MIN_SAMPLES = 20
_WARM_UP = 3


@dataclass(frozen=True)
class Recall:
    """recall@10 of one index for one kind of query, and the number of queries."""

    index: str
    kind: str
    queries: int
    recall_at_10: float


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one step, one query at a time: percentiles 50 and 99 of `samples` repetitions."""

    step: str
    samples: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class NearDuplicates:
    """How many of `images` searches with a changed copy return the original as the first, and among ten, results."""

    images: int
    first: int
    in_ten: int


@dataclass(frozen=True)
class Quality:
    """The measurements of a report."""

    recall: tuple[Recall, ...]
    near_duplicates: NearDuplicates
    latency: tuple[Latency, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the measurements as a JSON object."""
        return asdict(self)


def measure_quality(
    dataset: Dataset, searcher: Searcher, queries: Sequence[str], sampled: int, near_duplicates: int
) -> Quality:
    """Measure recall@10 of both indices by kind of query, and latency.

    The kinds are the texts `queries`, `sampled` captions, `sampled` images, and changed copies of `near_duplicates`
    stored images. Exact search makes one pass over the vectors of each modality; with `sampled` 0, neither recall nor
    near-duplicates are measured, and no vectors are read. Raises IntegrityError if embeddings were rebuilt after the
    indices, and what reading them raises.
    """
    texts = searcher.model.encode_texts(list(queries))
    recall: tuple[Recall, ...] = ()
    duplicates = NearDuplicates(0, 0, 0)
    if sampled:
        recall, duplicates = _compare_with_exact_search(dataset, searcher, texts, sampled, near_duplicates)
    latency = _measure_latency(searcher, searcher.version.index("image"), texts, queries)
    return Quality(recall, duplicates, latency)


def _compare_with_exact_search(
    dataset: Dataset, searcher: Searcher, texts: "np.ndarray", sampled: int, near_duplicates: int
) -> tuple[tuple[Recall, ...], NearDuplicates]:
    embeddings = read_coherent_embeddings(dataset, searcher.store)
    _require_same_embeddings(dataset, searcher)
    recall: list[Recall] = []
    duplicates = NearDuplicates(0, 0, 0)
    with (
        open_all_vectors(searcher.store, embeddings, "image") as images,
        open_all_vectors(searcher.store, embeddings, "text") as captions,
    ):
        ids = sample_ids(len(images), sampled)
        kinds = {"text": texts, "caption": captions.rows(ids), "image": images.rows(ids)}
        originals = _find_originals(searcher, images, near_duplicates)
        stored = [(original.row, read_stored_image(searcher, original)) for original in originals]
        changed = [(row, copy) for row, content in stored if (copy := _change(content))]
        if changed:
            kinds["near-duplicate"] = _encode(searcher.model, [copy for _, copy in changed])
        for modality, own in zip(MODALITIES, (images, captions), strict=True):
            index = searcher.version.index(modality)
            recall += _measure_recall(index, modality, own, kinds)
            if modality == "image" and changed:
                duplicates = _count_originals(index, [row for row, _ in changed], kinds["near-duplicate"])
    return tuple(recall), duplicates


def _count_originals(index: Any, rows: Sequence[int], copies: "np.ndarray") -> NearDuplicates:
    import numpy as np

    _, found = index.search(np.ascontiguousarray(copies, dtype=np.float32), RECALL_AT)
    places = [near.tolist().index(row) for row, near in zip(rows, found, strict=True) if row in near]
    return NearDuplicates(len(rows), places.count(0), len(places))


def _require_same_embeddings(dataset: Dataset, searcher: Searcher) -> None:
    """Raise IntegrityError if the embedding files are not those that the indices were built from.

    Indices of an earlier version do not name theirs.
    """
    inputs = searcher.manifest.details.get(INPUTS, [])
    layout = dataset.layout
    for number, known in zip(layout.embedding_numbers, inputs, strict=False):
        manifest = ClipEmbeddings(searcher.store, layout, (number,)).manifest(number)
        for folder in FOLDERS.values():
            path = ClipEmbeddings.path(layout, number, folder)
            if known.get(folder) != manifest.entry(path).sha256:
                raise IntegrityError(
                    f"{searcher.store.address(path)} was rebuilt after the indices of {dataset.name}, so recall cannot "
                    "be measured. Materialize knn_indices first."
                )


def _measure_recall(index: Any, modality: str, own: Vectors, kinds: "dict[str, np.ndarray]") -> list[Recall]:
    import numpy as np

    counts = [len(queries) for queries in kinds.values()]
    joined = np.ascontiguousarray(np.concatenate(list(kinds.values())), dtype=np.float32)
    kth = exact_kth(joined, own)
    parts = np.cumsum([0, *counts])
    return [
        Recall(modality, kind, end - start, recall_at_10(index, own, joined[start:end], kth[start:end]))
        for kind, start, end in zip(kinds, parts[:-1].tolist(), parts[1:].tolist(), strict=True)
    ]


def _find_originals(searcher: Searcher, images: Vectors, wanted: int) -> list[SearchResult]:
    """Return evenly spaced rows of the index as results."""
    if not wanted:
        return []
    ids = sample_ids(len(images), wanted)
    found = (searcher.search(vector=vector, k=1) for vector in images.rows(ids))
    return list({result.row: result for results in found for result in results}.values())


def read_stored_image(searcher: Searcher, result: SearchResult) -> bytes:
    """Read the stored image of a result; empty if its shard is not committed, as of adopted embeddings.

    Raises IntegrityError if a committed shard no longer has it.
    """
    key = searcher.dataset.layout.shard_key(result.shard)
    return searcher.read_image(result) if read_manifest(searcher.store, IMAGE_SHARDS, key) else b""


@contextlib.contextmanager
def open_metadata(store: Store, indices: Manifest) -> Iterator[MetadataRows]:
    """Open the metadata of the indices with this manifest."""
    rows = MetadataRows(store, indices, IndexDetails.of(indices))
    try:
        yield rows
    finally:
        rows.close()


def _change(content: bytes) -> bytes:
    """Crop, reduce and recompress an image: a JPEG, empty if the bytes do not decode."""
    image = decode_image(content)
    if image is None:
        return b""
    left, top = math.floor(image.width * CROP), math.floor(image.height * CROP)
    cropped = image.crop((left, top, image.width - left, image.height - top))
    buffer = io.BytesIO()
    cropped.resize([max(1, round(side * SCALE)) for side in cropped.size]).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def _encode(model: "ClipModel", copies: Sequence[bytes]) -> "np.ndarray":
    import torch

    return model.encode_images(torch.stack([model.preprocess(decode_image(copy)) for copy in copies]))


def _measure_latency(
    searcher: Searcher, index: Any, texts: "np.ndarray", queries: Sequence[str]
) -> tuple[Latency, ...]:
    """Time the steps of a text query with ten results, one query at a time, and the whole query."""
    import numpy as np

    vectors = np.ascontiguousarray(texts, dtype=np.float32)
    steps: dict[str, Callable[[int], object]] = {
        "encode the text": lambda turn: searcher.model.encode_texts([queries[turn % len(queries)]]),
        "search the index": lambda turn: index.search(vectors[turn % len(vectors)][None], RECALL_AT),
        "whole query": lambda turn: searcher.search(text=queries[turn % len(queries)], k=RECALL_AT),
    }
    return tuple(Latency(name, *_time(step)) for name, step in steps.items())


def _time(step: Callable[[int], object]) -> tuple[int, float, float]:
    """Return the number of repetitions, and their percentiles 50 and 99 in milliseconds."""
    import numpy as np

    for turn in range(_WARM_UP):
        step(turn)
    taken: list[float] = []
    began = time.perf_counter()
    while len(taken) < MAX_SAMPLES and (len(taken) < _MIN_SAMPLES or time.perf_counter() - began < MAX_SECONDS):
        start = time.perf_counter()
        step(len(taken))
        taken.append(1000 * (time.perf_counter() - start))
    middle, high = np.percentile(taken, (50, 99))
    return len(taken), round(float(middle), 3), round(float(high), 3)
