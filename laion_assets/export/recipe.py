"""The recipe of an export: everything that determines its bytes, with a digest. `recipe.json` also has the results."""

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from laion_assets.export.request import WEBDATASET, ExportRequest
from laion_assets.export.rows.counts import ExportCounts
from laion_assets.export.rows.ordered_rows import DATASET_ORDER, SIMILARITY_ORDER
from laion_assets.export.rows.search_results import SearchResults
from laion_assets.export.rows.shard_rows import ShardRows
from laion_assets.export.rows.uid_list import UidList
from laion_assets.stages.knn_indices.inputs import CLIP_EMBEDDINGS
from laion_assets.store.manifest import FileEntry

if TYPE_CHECKING:
    import numpy as np

FORMAT = 1


def describe_recipe(
    source: ShardRows,
    request: ExportRequest,
    uids: UidList | None,
    results: SearchResults | None,
    columns: list[str],
) -> dict[str, Any]:
    """Return what determines the bytes of an export. Two exports with equal recipes have equal bytes.

    `inputs` has a digest of the committed shards, which changes if any of them is committed with other bytes, and of
    the embeddings' metadata, where a column of it is used.
    """
    import numpy as np
    import pyarrow

    dataset = source.dataset
    selection: dict[str, Any] = {"where": request.where or None}
    if results is not None and request.search is not None:
        search = request.search
        selection["search"] = {
            "text": search.text, "k": search.k, "modality": search.modality,
            "index": results.version, "model": results.model,
        }  # fmt: skip
    elif results is not None:  # of a search that was run before, by the search service
        ranked = results.uids.uids[np.argsort(results.ranks)]
        similarities = np.asarray(results.similarities, "<f4")[np.argsort(results.ranks)]
        selection["found"] = {
            "rows": len(ranked),
            "sha256_of_uids": _hash_array(ranked),
            "sha256_of_similarities": _hash_array(similarities),
        }
    if uids is not None:
        selection["uids"] = {"listed": uids.listed, "sha256_of_sorted": _hash_array(uids.uids)}
    shards = [f"{shard.number} {shard.content}" for shard in source.shards]
    embeddings = [f"{number} {manifest.content}" for number, manifest in source.embeddings.items()]
    output: dict[str, Any] = {"format": request.format, "columns": columns}
    if request.is_list or request.format == WEBDATASET:
        output["rows_per_file"] = request.file_rows
    if request.format == "csv":
        output["escaped_formulas"] = request.escape_formulas
    if request.format == WEBDATASET:
        output["keys"] = "kept"
    safety = None if request.include_hidden or source.safety is None else source.safety.describe()
    return {
        "format": FORMAT,
        "laion_assets": importlib.metadata.version("laion-assets"),
        "pyarrow": pyarrow.__version__,
        "dataset": dataset.name,
        "selection": selection,
        "order": DATASET_ORDER if results is None else SIMILARITY_ORDER,
        "shown_tags": "all" if request.include_hidden else sorted({"UNLIKELY", *dataset.search.show}),
        **({"safety_model": safety} if safety else {}),
        "include_failed": request.include_failed,
        "output": output,
        "inputs": {
            "image_shards": {"committed": len(shards), "missing": len(source.missing), "digest": _hash(shards)},
            CLIP_EMBEDDINGS: {"committed": len(embeddings), "digest": _hash(embeddings)},
        },
    }


def digest_of(recipe: dict[str, Any]) -> str:
    """Return the digest of a recipe: sha256 of its canonical JSON, 64 hex digits."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def finished_json(recipe: dict[str, Any], counts: ExportCounts, files: Iterable[FileEntry]) -> bytes:
    """Return the content of `recipe.json`: the recipe, its digest, the counts, and size and sha256 of each file."""
    listed = [{"path": entry.path, "size": entry.size, "sha256": entry.sha256} for entry in files]
    whole = {"digest": digest_of(recipe), "recipe": recipe, "counts": counts.to_json(), "files": listed}
    return (json.dumps(whole, indent=1, ensure_ascii=True) + "\n").encode()


def _hash(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _hash_array(array: "np.ndarray") -> str:
    digest = hashlib.sha256()
    step = 1 << 20
    for start in range(0, len(array), step):
        digest.update(array[start : start + step].tobytes())
    return digest.hexdigest()
