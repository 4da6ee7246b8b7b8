"""The figures of the statistics, from counts and manifests: those of the recipe's scripts, and more."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from laion_assets.stages.statistics.counts import (
    SIMILARITY_STEPS,
    at_least,
    most,
    of_measure,
    of_values,
    quantiles,
    whole_numbers,
)
from laion_assets.store.manifest import Manifest

SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
SIZE_CLASSES = (64, 128, 256, 384, 512, 768, 1024)
"""Size classes: rows whose width and height are at least this many pixels."""
TOP = 100
"""Maximum number of domains, licences and source files that are listed by name."""

Summary = dict[str, Any]


def dataset_summary(counts: pa.Table, manifests: Iterable[Manifest], partitions: int) -> Summary:
    """Summarize the unique rows of the committed parquet files `manifests`, out of `partitions` declared ones."""
    committed = list(manifests)
    rows = sum(manifest.counts.rows_out for manifest in committed)
    similarity = whole_numbers(of_measure(counts, "similarity"))
    captions = whole_numbers(of_measure(counts, "caption_chars"))
    sources = sorted(of_measure(counts, "source_file").values())
    return {
        "rows": rows,
        "partitions": {"counted": len(committed), "declared": partitions},
        "read": {
            "rows": sum(manifest.counts.rows_in for manifest in committed),
            "dropped": _reasons(committed),
        },
        **_sides(counts, rows),
        "caption_chars": quantiles(captions, SHARES),
        "captions_missing": rows - sum(captions.values()),
        "similarity": {share: step / SIMILARITY_STEPS for share, step in quantiles(similarity, SHARES).items()},
        "similarity_mean": _mean(similarity),
        "similarity_missing": rows - sum(similarity.values()),
        "nsfw": _count_by_name(counts, "nsfw"),
        "licenses": _count_by_name(counts, "license"),
        "domains": {"distinct": _distinct(counts, "domain"), "most": most(counts, "domain", TOP)},
        "source_files": {
            "distinct": len(sources),
            "fewest_rows": sources[0] if sources else 0,
            "median_rows": sources[len(sources) // 2] if sources else 0,
            "most_rows": sources[-1] if sources else 0,
            "most": most(counts, "source_file", TOP),
        },
    }


def image_summary(counts: pa.Table, manifests: Iterable[Manifest], partitions: int) -> Summary:
    """Summarize the downloaded images of the committed shards `manifests`, out of `partitions` declared ones."""
    committed = list(manifests)
    rows = sum(manifest.counts.rows_in for manifest in committed)
    successes = of_measure(counts, "status").get("success", 0)
    domains = most(counts, "domain", TOP)
    fetched = of_values(counts, "domain_success", [domain for domain, _ in domains])
    return {
        "rows": rows,
        "partitions": {"counted": len(committed), "declared": partitions},
        "successes": successes,
        "success_rate": round(successes / rows, 6) if rows else None,
        "statuses": _count_by_name(counts, "status"),
        "reasons": _count_by_name(counts, "reason"),
        **_sides(counts, successes),
        "domains": {
            "distinct": _distinct(counts, "domain"),
            "without_a_success": _distinct(counts, "domain") - _distinct(counts, "domain_success"),
            "most": [(domain, total, fetched.get(domain, 0)) for domain, total in domains],
        },
    }


def _sides(counts: pa.Table, rows: int) -> Summary:
    shorter = whole_numbers(of_measure(counts, "shorter_side"))
    return {
        "width": quantiles(whole_numbers(of_measure(counts, "width")), SHARES),
        "height": quantiles(whole_numbers(of_measure(counts, "height")), SHARES),
        "at_least": at_least(shorter, SIZE_CLASSES),
        "size_unknown": rows - sum(shorter.values()),
    }


def _count_by_name(counts: pa.Table, measure: str) -> list[tuple[str, int]]:
    """Return the values with the most rows; rows without a value as `(none)`, last."""
    missing = of_measure(counts, measure).get(None, 0)
    return most(counts, measure, TOP) + ([("(none)", missing)] if missing else [])


def _distinct(counts: pa.Table, measure: str) -> int:
    mask = pc.and_(pc.equal(counts.column("measure"), measure), pc.is_valid(counts.column("value")))
    return int(pc.sum(mask.cast(pa.int64())).as_py() or 0)


def _mean(steps: dict[int, int]) -> float | None:
    """Return the mean of similarities that were rounded down to steps, taking the middle of each step."""
    rows = sum(steps.values())
    total = sum(step * count for step, count in steps.items())
    return round((total / rows + 0.5) / SIMILARITY_STEPS, 6) if rows else None


def _reasons(manifests: list[Manifest]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for manifest in manifests:
        total.update(manifest.counts.reasons)
    return dict(sorted(total.items(), key=lambda each: (-each[1], each[0])))
