"""Build the image and the text index over all embedding files, in the folder that `clip-retrieval back` serves.

knn_indices/image.index, text.index     faiss, memory-mappable; the id is the row in the files in sorted order
knn_indices/image.json, text.json       autofaiss's measurements and our recall@10
knn_indices/metadata/metadata_0.parquet the embedding files' metadata (hard links where the disk allows it)
knn_indices/indices_paths.json          the argument of `clip-retrieval back --indices_paths`
"""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import EmbeddingNumber, Layout
from laion_assets.errors import IndexBuildError, InvariantError
from laion_assets.stages.kept_rows import require_rows
from laion_assets.stages.knn_indices.autofaiss_index import build_with_autofaiss
from laion_assets.stages.knn_indices.details import INPUTS, footer_sha256
from laion_assets.stages.knn_indices.handle import KNN_INDICES
from laion_assets.stages.knn_indices.index_file import read_index
from laion_assets.stages.knn_indices.inputs import CLIP_EMBEDDINGS, ClipEmbeddings, read_coherent_embeddings
from laion_assets.stages.knn_indices.recall import find_low_recall, measure_recall
from laion_assets.stages.knn_indices.stage import STAGE
from laion_assets.stages.knn_indices.vectors import FOLDERS, MODALITIES, Vectors, open_all_vectors, verify_bytes
from laion_assets.stages.stage import inputs_digest
from laion_assets.stages.status import state_before_run
from laion_assets.store.build_result import BuildResult
from laion_assets.store.manifest import WHOLE, Counts, FileEntry, Manifest
from laion_assets.store.store import Store
from laion_assets.store.transaction import Transaction, open_transaction

METADATA_FOLDER = f"{KNN_INDICES}/metadata"


def build_indices(dataset: Dataset, store: Store, log: Callable[[str], None]) -> BuildResult:
    """Build, measure and commit the image and the text index of a dataset.

    Does nothing if they are complete, intact and up to date. The sha256 of every input is compared with its manifest
    before it is used. Raises IncompleteError naming missing embedding files, EmbeddingError or ModelError naming a file
    that has another width or model than the others or was altered, IndexBuildError if there is nothing to index or
    autofaiss returns no index or one whose recall is below `index.min_recall`, InvariantError if an index does not have
    every vector. Until the new manifest is written, the old indices stay committed.
    """
    embeddings = read_coherent_embeddings(dataset, store)
    settings, inputs = STAGE.settings_digest(dataset), inputs_digest(WHOLE, list(embeddings.manifests))
    state = state_before_run(store, STAGE, KNN_INDICES, WHOLE, settings, inputs, rebuild_before=dataset.rebuild_before)
    current = state.manifest
    if current is not None and state.is_complete:
        log(f"{KNN_INDICES}: already complete, {current.counts.rows_out:,} vectors")
        return BuildResult(current, was_built=False)
    if current is not None:
        log(f"{KNN_INDICES}: rebuilding, because {state.reason}")
    if embeddings.rows == 0:
        require_rows(dataset, CLIP_EMBEDDINGS)  # names the stage that lost the rows
        raise IndexBuildError(
            f"{dataset.name} has no vectors to index: its {len(embeddings.manifests)} embedding files have no rows."
        )
    with contextlib.ExitStack() as stack:
        vectors = {
            name: stack.enter_context(open_all_vectors(store, embeddings, name, hashes=True)) for name in MODALITIES
        }
        transaction = stack.enter_context(open_transaction(store, KNN_INDICES))
        details: dict[str, Any] = {
            "model": embeddings.model,
            "width": embeddings.width,
            "metric": dataset.index.metric_type,
            "rows": [manifest.counts.rows_out for manifest in embeddings.manifests],
        }
        for modality in MODALITIES:
            details[modality] = _build(dataset, store, transaction, modality, vectors, log)
        _require_recall(dataset, {modality: details[modality]["recall_at_10"] for modality in MODALITIES})
        details[INPUTS] = [
            _stage_metadata(store, transaction, dataset.layout, number, manifest)
            for number, manifest in zip(dataset.layout.embedding_numbers, embeddings.manifests, strict=True)
        ]
        paths = transaction.stage(f"{KNN_INDICES}/indices_paths.json", repeatable=False)
        paths.write_text(
            json.dumps({dataset.name: store.address(KNN_INDICES).removeprefix("file://")}), encoding="utf-8"
        )
        counts = Counts(embeddings.rows, min(details[name]["ntotal"] for name in MODALITIES))
        manifest = transaction.commit(counts, settings=settings, inputs=inputs, details=details)
    return BuildResult(manifest, was_built=True)


def _build(
    dataset: Dataset,
    store: Store,
    transaction: Transaction,
    modality: str,
    vectors: dict[str, Vectors],
    log: Callable[[str], None],
) -> dict[str, Any]:
    """Build and measure one index; return its details."""
    own, other = vectors[modality], next(vectors[name] for name in MODALITIES if name != modality)
    path = f"{KNN_INDICES}/{modality}.index"
    staged, infos = (
        transaction.stage(path, repeatable=False),
        transaction.stage(f"{KNN_INDICES}/{modality}.json", repeatable=False),
    )
    log(f"{modality} index: {len(own):,} vectors of width {own.arrays[0].shape[1]}, building")
    started = time.monotonic()
    measured = build_with_autofaiss(own, dataset.index, staged, infos)
    seconds = time.monotonic() - started
    index = read_index(str(staged))
    if index.ntotal != len(own):
        raise InvariantError(
            f"{store.address(path)} has {index.ntotal:,} vectors, but the embedding files have {len(own):,}. Nothing "
            "was committed. This is a bug in the stage. Please report it with the log of the run."
        )
    names = (modality, next(name for name in MODALITIES if name != modality))
    recall = measure_recall(index, own, other, dataset.index.recall_queries, names)
    facts = {**measured, "index_path": path, "recall@10": recall}
    infos.write_text(json.dumps(facts, indent=1, sort_keys=True), encoding="utf-8")
    log(
        f"{modality} index: {measured['index_key']} ({measured['index_param']}), "
        f"{staged.stat().st_size / 1e6:,.1f} MB, recall@10 {recall[names[0]]:.3f} by {names[0]} and "
        f"{recall[names[1]]:.3f} by {names[1]}, took {seconds:.1f} s"
    )
    return {
        "ntotal": int(index.ntotal),
        "index_key": measured["index_key"],
        "index_param": measured["index_param"],
        "recall_at_10": recall,
        "query_ms": measured.get("avg_search_speed_ms"),
        "build_seconds": round(seconds, 2),
    }


def _require_recall(dataset: Dataset, measured: dict[str, dict[str, float]]) -> None:
    low = find_low_recall(measured, dataset.index.min_recall)
    if low:
        raise IndexBuildError(
            f"{KNN_INDICES} of {dataset.name}: {'; '.join(low)}. Nothing was committed, and the old indices stay. "
            "Increase index.max_index_memory_usage for a larger, more exact index, or lower index.min_recall."
        )


def _stage_metadata(
    store: Store, transaction: Transaction, layout: Layout, partition: EmbeddingNumber, manifest: Manifest
) -> dict[str, str]:
    """Stage the metadata of an embedding file after a check of its sha256; return the digests of the inputs."""
    paths = {kind: ClipEmbeddings.path(layout, partition, kind) for kind in (*FOLDERS.values(), "metadata")}
    entries = {kind: manifest.entry(path) for kind, path in paths.items()}
    own = entries["metadata"]
    entry = FileEntry(f"{METADATA_FOLDER}/{own.path.rsplit('/', 1)[-1]}", own.size, own.sha256)
    with store.local_copy(own.path) as local:
        verify_bytes(store, manifest.key, local, own)
        with local.open("rb") as file:
            footer = footer_sha256(file, store.address(own.path))
        _link(local, transaction.stage_hashed(entry))
    return {**{kind: each.sha256 for kind, each in entries.items()}, "footer": footer}


def _link(source: Path, target: Path) -> None:
    """Create a hard link, so that 60 GB of metadata are not stored twice; a copy if links are not supported."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
