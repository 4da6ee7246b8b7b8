"""The checks of `dataset_statistics` and `image_statistics`."""

from collections.abc import Iterator

from laion_assets.dataset.dataset import Dataset
from laion_assets.orchestration.stage_parts import ModelLoader
from laion_assets.stages.statistics.handle import (
    DATASET_STATISTICS,
    IMAGE_STATISTICS,
    DatasetStatistics,
    ImageStatistics,
    Statistics,
)
from laion_assets.stages.status import committed_upstream
from laion_assets.store.manifest import disagreement
from laion_assets.store.store import Store

_PER_ROW = (
    "width",
    "height",
    "shorter_side",
    "caption_chars",
    "similarity",
    "nsfw",
    "license",
    "domain",
    "source_file",
)


def find_dataset_problems(dataset: Dataset, store: Store, partition: int, load_model: ModelLoader) -> Iterator[str]:
    """Yield differences between the counts of the rows and the manifests of `dedup_parquet`."""
    manifest = DatasetStatistics.of(dataset).manifest(partition)
    if problem := disagreement(store, manifest, hashes=True):
        yield problem
        return
    rows = sum(each.counts.rows_out for each in committed_upstream(dataset, store, DATASET_STATISTICS))
    counted = _read_counts(store, DATASET_STATISTICS)
    for measure in _PER_ROW if rows else ():
        found = sum(counted.get(measure, {}).values())
        if found != rows:
            yield f"{measure} counts {found:,} rows, but the manifests of dedup_parquet list {rows:,}"


def find_image_problems(dataset: Dataset, store: Store, partition: int, load_model: ModelLoader) -> Iterator[str]:
    """Yield differences between the counts of the images and the manifests of `image_shards`."""
    manifest = ImageStatistics.of(dataset).manifest(partition)
    if problem := disagreement(store, manifest, hashes=True):
        yield problem
        return
    shards = committed_upstream(dataset, store, IMAGE_STATISTICS)
    rows, good = sum(each.counts.rows_in for each in shards), sum(each.counts.rows_out for each in shards)
    counted = _read_counts(store, IMAGE_STATISTICS)
    for measure, expected in (("status", rows), ("reason", rows), ("domain", rows), ("width", good), ("height", good)):
        found = sum(counted.get(measure, {}).values())
        if found != expected:
            yield f"{measure} counts {found:,} rows, but the manifests of image_shards list {expected:,}"
    reasons: dict[str | None, int] = {}
    for each in shards:
        for reason, count in each.counts.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + count
    for name, count in sorted(reasons.items(), key=str):
        found = counted.get("reason", {}).get(name, 0)
        if found != count:
            yield f"the reason {name} counts {found:,} rows, but the manifests of image_shards list {count:,}"


def _read_counts(store: Store, asset: str) -> dict[str, dict[str | None, int]]:
    """Read rows by measure and value from the committed counts; all values but reasons are added up."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from laion_assets.stages.statistics.counts import of_measure

    with store.open(Statistics.counts_path(asset)) as file:
        table = pq.read_table(file)
    found: dict[str, dict[str | None, int]] = {}
    for measure in pc.unique(table.column("measure")).to_pylist():
        rows = table.filter(pc.equal(table.column("measure"), measure))
        whole = measure == "reason"
        found[measure] = of_measure(rows, measure) if whole else {None: int(pc.sum(rows.column("rows")).as_py() or 0)}
    return found
