"""The statistics of a dataset, as values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from laion_assets.api.datasets import load_dataset
from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import IncompleteError

Quantiles = Mapping[float, float]
"""Value by share of the rows: `quantiles[0.5]` is the median. Empty where no row has the measure."""


@dataclass(frozen=True)
class RowStatistics:
    """Statistics of the unique rows in the `parquet_files` that are committed.

    `dropped` counts dropped rows by reason. `at_least` counts rows by the pixels that width and height both have.
    `nsfw`, `licenses` and `domains` count the most frequent values.
    """

    rows: int
    rows_read: int
    dropped: Mapping[str, int]
    parquet_files: int
    width: Quantiles
    height: Quantiles
    at_least: Mapping[int, int]
    caption_chars: Quantiles
    similarity: Quantiles
    similarity_mean: float | None
    nsfw: Mapping[str, int]
    licenses: Mapping[str, int]
    domains: Mapping[str, int]
    distinct_domains: int


@dataclass(frozen=True)
class ImageStatistics:
    """Statistics of the images in the `shards` that are committed.

    `reasons` counts all rows by outcome. `domains` counts the rows of the most frequent domains.
    """

    rows: int
    images: int
    success_rate: float | None
    shards: int
    statuses: Mapping[str, int]
    reasons: Mapping[str, int]
    width: Quantiles
    height: Quantiles
    at_least: Mapping[int, int]
    domains: Mapping[str, int]
    distinct_domains: int


@dataclass(frozen=True)
class DatasetStatistics:
    """The statistics of a dataset; None where the asset is not materialized."""

    rows: RowStatistics | None
    images: ImageStatistics | None


def read_statistics(dataset: Dataset | str) -> DatasetStatistics:
    """Return the statistics from the assets `dataset_statistics` and `image_statistics`.

    Raises IncompleteError if neither is materialized, IntegrityError for altered files.
    """
    from laion_assets.stages.statistics.build import read_summaries
    from laion_assets.stages.statistics.handle import DATASET_STATISTICS, IMAGE_STATISTICS
    from laion_assets.store.store import Store

    dataset = load_dataset(dataset)
    summaries = read_summaries(Store.of(dataset))
    if not summaries:
        raise IncompleteError(
            f"No statistics of {dataset.name} are committed. Materialize {DATASET_STATISTICS} and {IMAGE_STATISTICS} "
            "first."
        )
    rows, images = summaries.get(DATASET_STATISTICS), summaries.get(IMAGE_STATISTICS)
    return DatasetStatistics(rows and _row_statistics(rows), images and _image_statistics(images))


def _row_statistics(summary: Mapping[str, Any]) -> RowStatistics:
    return RowStatistics(
        rows=summary["rows"],
        rows_read=summary["read"]["rows"],
        dropped=summary["read"]["dropped"],
        parquet_files=summary["partitions"]["counted"],
        caption_chars=_quantiles(summary["caption_chars"]),
        similarity=_quantiles(summary["similarity"]),
        similarity_mean=summary["similarity_mean"],
        nsfw=_counts(summary["nsfw"]),
        licenses=_counts(summary["licenses"]),
        domains=_counts(summary["domains"]["most"]),
        distinct_domains=summary["domains"]["distinct"],
        **_sizes(summary),
    )


def _image_statistics(summary: Mapping[str, Any]) -> ImageStatistics:
    return ImageStatistics(
        rows=summary["rows"],
        images=summary["successes"],
        success_rate=summary["success_rate"],
        shards=summary["partitions"]["counted"],
        statuses=_counts(summary["statuses"]),
        reasons=_counts(summary["reasons"]),
        domains=_counts(summary["domains"]["most"]),
        distinct_domains=summary["domains"]["distinct"],
        **_sizes(summary),
    )


def _sizes(summary: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "width": _quantiles(summary["width"]),
        "height": _quantiles(summary["height"]),
        "at_least": {int(pixels): rows for pixels, rows in summary["at_least"].items()},
    }


def _quantiles(found: Mapping[str, float]) -> Quantiles:
    return {float(share): value for share, value in found.items()}


def _counts(rows: list[list[Any]]) -> dict[str, int]:
    """Counts by value, from rows that begin with the value and its count."""
    return {row[0]: row[1] for row in rows}
