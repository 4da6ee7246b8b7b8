"""The layout for a number of rows: `laion-assets init` proposes it, and a declaration with `rows` has it.

Shards of at most 10,000 rows, filled to nine tenths, so that a tenth more rows still fit. One parquet file and one
embedding file for each 100 shards, about 900,000 rows.
"""

from laion_assets.dataset.layout import MAX_SHARDS, SAMPLES_PER_SHARD_KEY, Layout
from laion_assets.errors import LayoutError

ROWS_PER_SHARD = SAMPLES_PER_SHARD_KEY
"""Most rows of a shard: img2dataset's default, and the digits of sample keys allow no more."""
FILLED_ROWS = ROWS_PER_SHARD * 9 // 10
SHARDS_PER_FILE = 100


def propose_layout(rows: int, error: float = 0.0) -> Layout:
    """Return the layout for `rows` rows, of which the relative `error` is known. Raises LayoutError for too many."""
    most = int(rows * (1 + error))
    shards = 1 if most <= ROWS_PER_SHARD else -(-most // FILLED_ROWS)
    if shards > MAX_SHARDS:
        raise LayoutError(
            f"About {rows:,} rows do not fit into {MAX_SHARDS:,} shards of {FILLED_ROWS:,} rows. Split the files into "
            "several datasets."
        )
    files = -(-shards // SHARDS_PER_FILE)
    return Layout(parquet_files=files, shards=shards, embedding_files=files, rows_per_shard=ROWS_PER_SHARD)
