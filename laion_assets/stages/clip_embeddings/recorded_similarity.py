"""Compare the cosine of image and caption with the similarity that the crawl recorded: a check of the downloads.

The crawl computed `similarity` from the image as it was then, mostly with OpenAI's ViT-B/32. Under the same model
`clip_similarity` is close to it, unless the URL has another image now. Under another model all rows differ in the same
direction. If the two are not correlated either, images and captions do not belong together.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from laion_assets.stages.clip_embeddings.metadata_file import SIMILARITY

if TYPE_CHECKING:
    import numpy as np

RECORDED = "similarity"
"""Column of the metadata with the crawl's cosine, if `images.additional_columns` names it."""
MAX_DIFFERENCE = 0.1
"""Rows with a larger absolute difference are counted."""
_BINS = 80


@dataclass(frozen=True)
class SimilarityComparison:
    """`recorded` and `encoded`, (n,) float64 each: the crawl's cosine and ours of the n rows of a file that have both.

    `missing` counts the rows without a recorded value.
    """

    recorded: "np.ndarray"
    encoded: "np.ndarray"
    missing: int

    @property
    def differing(self) -> int:
        """Rows whose cosine differs by more than MAX_DIFFERENCE."""
        return int((abs(self.encoded - self.recorded) > MAX_DIFFERENCE).sum())

    @property
    def correlation(self) -> float | None:
        """Pearson's correlation of the two; None for fewer than 2 rows and for constant values."""
        import numpy as np

        if len(self.recorded) < 2 or not self.recorded.std() or not self.encoded.std():
            return None
        return float(np.corrcoef(self.recorded, self.encoded)[0, 1])

    @property
    def details(self) -> dict[str, Any]:
        """The figures for the manifest. A difference is the cosine of today less the recorded one."""
        import numpy as np

        difference = self.encoded - self.recorded
        correlation = self.correlation
        return {
            "rows": len(self.recorded),
            "rows_without": self.missing,
            "differing": self.differing,
            "mean_difference": round(float(difference.mean()), 4) if len(difference) else None,
            "median_difference": round(float(np.median(difference)), 4) if len(difference) else None,
            "correlation": None if correlation is None else round(correlation, 4),
        }

    def plot(self) -> str:
        """Draw a 2-D histogram, as SVG text: the recorded cosine along x, today's along y."""
        import numpy as np

        from laion_assets.stages.plots import density

        values = np.concatenate((self.recorded, self.encoded, [0.0, 0.5]))
        bounds = float(np.floor(values.min() * 10) / 10), float(np.ceil(values.max() * 10) / 10)
        counts, _, _ = np.histogram2d(self.recorded, self.encoded, bins=_BINS, range=(bounds, bounds))
        return density(
            "similarity", counts, bounds, "similarity recorded by the crawl", "clip_similarity", MAX_DIFFERENCE
        )


def compare_similarity(metadata: Path | IO[bytes]) -> SimilarityComparison | None:
    """Compare the two columns of an embedding file's metadata. None if it has no numeric column `similarity`."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    parquet = pq.ParquetFile(metadata)
    schema = parquet.schema_arrow
    if not {RECORDED, SIMILARITY} <= set(schema.names) or not _is_number(schema.field(RECORDED).type):
        return None
    table = parquet.read(columns=[RECORDED, SIMILARITY])
    recorded, encoded = (
        table[name].cast(pa.float64()).to_numpy().astype(np.float64) for name in (RECORDED, SIMILARITY)
    )
    both = np.isfinite(recorded) & np.isfinite(encoded)
    return SimilarityComparison(recorded[both], encoded[both], len(both) - int(both.sum()))


def describe_comparison(details: dict[str, Any] | None) -> str:
    """Return the figures of `SimilarityComparison.details` as a sentence; None: there is nothing to compare."""
    if details is None:
        return (
            f"clip_similarity is not compared: the shards have no numeric column {RECORDED}. To record the crawl's, "
            f"add {RECORDED} to images.additional_columns"
        )
    rows, differing = details["rows"], details["differing"]
    if not rows:
        return f"clip_similarity is not compared: no row has a {RECORDED}"
    correlation = details["correlation"]
    return (
        f"{differing:,} of {rows:,} rows ({differing / rows:.1%}) have a clip_similarity that differs by more than "
        f"{MAX_DIFFERENCE} from the crawl's {RECORDED}; median difference {details['median_difference']:+.3f}, mean "
        f"{details['mean_difference']:+.3f}, correlation {'-' if correlation is None else format(correlation, '.2f')}"
    )


def _is_number(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_floating(kind) or pa.types.is_integer(kind)
