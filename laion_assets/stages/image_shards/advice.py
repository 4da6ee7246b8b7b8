"""The likely fix if `image_shards` kept too few images."""

from collections import Counter

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import IntegrityError
from laion_assets.http.urls.remedies import describe_remedy
from laion_assets.http.urls.target import parse_target
from laion_assets.reasons import Rejection
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS, ImageShards
from laion_assets.stages.image_shards.retry_reasons import REFUSED_BY_GUARD
from laion_assets.store.manifest import read_manifest
from laion_assets.store.store import Store
from laion_assets.store.stored_parquet import open_parquet


def advise(dataset: Dataset, reasons: Counter[str]) -> str:
    """Return how to allow what the address guard refused, if that is the most frequent reason; else an empty text."""
    (reason, _), *_ = reasons.most_common(1) or [("", 0)]
    if reason not in REFUSED_BY_GUARD:
        return ""
    return describe_remedy(reason, dataset.name, *_find_example(dataset, reason))


def _find_example(dataset: Dataset, reason: str) -> tuple[str, ...]:
    """Return the host, and the network of its address, of one refused row; empty if there is none to read."""
    import pyarrow.parquet as pq

    store, layout = Store.of(dataset), dataset.layout
    try:
        for number in layout.shard_numbers:
            manifest = read_manifest(store, IMAGE_SHARDS, layout.shard_key(number))
            if manifest is None or not manifest.counts.reasons.get(reason):
                continue
            with open_parquet(store, manifest, ImageShards.path(layout, number, ".parquet")) as file:
                table = pq.read_table(file, columns=["url", "reason", "error_message"])
            row = table.column("reason").to_pylist().index(reason)
            host = parse_target(table.column("url")[row].as_py()).host
            found = table.column("error_message")[row].as_py()
            address = next((word for word in (found or "").split() if word[0].isdigit() or ":" in word[:5]), "")
            return (host, f"{address}/{128 if ':' in address else 32}") if address else (host,)
    except (IntegrityError, OSError, ValueError, Rejection):
        pass
    return ()
