"""The candidates of an export by search: the uids of the nearest rows, with rank and similarity."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import ShardNumber
from laion_assets.errors import ExportError
from laion_assets.export.request import SearchSelection
from laion_assets.export.rows.uid_list import UidList, parse_uids
from laion_assets.search.index.index_version import IndexVersion
from laion_assets.search.stored_images import shard_of
from laion_assets.store.store import Store

if TYPE_CHECKING:
    import numpy as np

_METADATA_ROWS = 1_000


@dataclass
class SearchResults:
    """The nearest rows of a search. `ranks` (from 0) and `similarities` belong to the sorted uids of `uids`.

    `shards` are the shards of the rows. `version` identifies the committed indices, and `model` the model.
    """

    uids: UidList
    ranks: "np.ndarray"
    similarities: "np.ndarray"
    shards: frozenset[ShardNumber]
    version: str
    model: str


def run_search(dataset: Dataset, search: SearchSelection) -> SearchResults:
    """Find the nearest rows of a text. Raises IncompleteError without an index, ModelError, and ExportError."""
    import numpy as np

    from laion_assets.models.loading import load_model

    limit = dataset.search.max_text_chars
    if not search.text.strip() or len(search.text) > limit:
        raise ExportError(f"The search text has {len(search.text):,} characters: expected 1 to {limit:,}.")
    version = IndexVersion(dataset, Store.of(dataset))
    model = load_model(dataset.model, dataset.embeddings.device, dataset.embeddings.precision)
    vector = np.ascontiguousarray(model.encode_texts([search.text])[0], dtype=np.float32)
    ids, similarities = (
        version.nearest(search.modality, vector, min(search.k, len(version))) if len(version) else ([], [])
    )
    uids, shards = list[str | None](), set[ShardNumber]()
    for start in range(0, len(ids), _METADATA_ROWS):
        for row in version.metadata.rows(ids[start : start + _METADATA_ROWS]):
            uids.append(row["uid"])
            shards.add(shard_of(str(row["image_path"])))
    raw = parse_uids(uids, "index row", 0)
    distinct, first = np.unique(raw, return_index=True)
    return SearchResults(
        UidList(distinct, len(raw), np.zeros(len(distinct), bool)),
        first,
        np.asarray(similarities, np.float32)[first],
        frozenset(shards),
        version.version,
        version.details.model,
    )
