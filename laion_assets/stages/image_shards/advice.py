"""The likely fix if `image_shards` kept too few images."""

from collections import Counter

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import ShardNumber
from laion_assets.errors import IntegrityError
from laion_assets.http.urls.remedies import describe_remedy, describe_retry
from laion_assets.http.urls.target import parse_target
from laion_assets.reasons import Rejection
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS, ImageShards
from laion_assets.stages.image_shards.retry_reasons import NEWLY_ALLOWED, REFUSED_BY_GUARD, reasons_of_shard
from laion_assets.store.manifest import Manifest, read_manifest
from laion_assets.store.store import Store
from laion_assets.store.stored_parquet import open_parquet


def advise(dataset: Dataset, reasons: Counter[str]) -> str:
    """Return how to allow what the address guard refused, if that is the most frequent reason; else an empty text.

    If the settings have changed since the rows were refused, returns how to retry them.
    """
    (reason, _), *_ = reasons.most_common(1) or [("", 0)]
    if reason not in REFUSED_BY_GUARD:
        return ""
    try:
        manifest = _find_shard(dataset, reason)
        if manifest and reasons_of_shard(dataset, manifest, (NEWLY_ALLOWED,)):
            return describe_retry(dataset.folder)
        example = _read_example(dataset, manifest, reason) if manifest else ()
    except (IntegrityError, OSError, ValueError, Rejection):
        example = ()
    return describe_remedy(reason, dataset.folder, *example)  # a subset has the settings of its dataset


def _find_shard(dataset: Dataset, reason: str) -> Manifest | None:
    """Return the manifest of the first shard with a refused row."""
    store, layout = Store.of(dataset), dataset.layout
    manifests = (read_manifest(store, IMAGE_SHARDS, layout.shard_key(number)) for number in layout.shard_numbers)
    return next((each for each in manifests if each is not None and each.counts.reasons.get(reason)), None)


def _read_example(dataset: Dataset, manifest: Manifest, reason: str) -> tuple[str, int, str]:
    """Return host, port and refused address of one refused row."""
    import pyarrow.parquet as pq

    path = ImageShards.path(dataset.layout, ShardNumber(int(manifest.key)), ".parquet")
    with open_parquet(Store.of(dataset), manifest, path) as file:
        table = pq.read_table(file, columns=["url", "reason", "error_message"])
    row = table.column("reason").to_pylist().index(reason)
    target = parse_target(table.column("url")[row].as_py())
    words = (table.column("error_message")[row].as_py() or "").split()
    address = next((word for word in words if word[0].isdigit() or ":" in word[:5]), "")
    return target.host, target.port, address
