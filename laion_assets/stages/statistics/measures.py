"""The measures that are counted for a table of `dedup_parquet` and for a shard's parquet file."""

import pyarrow as pa
import pyarrow.compute as pc

from laion_assets.stages.statistics.counts import Counter, hosts, similarity_steps

DEDUP_COLUMNS = ("URL", "TEXT", "HEIGHT", "WIDTH", "LICENSE", "NSFW", "similarity", "source_file")
SHARD_COLUMNS = ("url", "status", "reason", "original_width", "original_height")


def count_rows(table: pa.Table, counter: Counter) -> None:
    """Count rows by size (px), caption length (characters), similarity, NSFW tag, licence, domain and source file."""
    counter.add("width", table.column("WIDTH"))
    counter.add("height", table.column("HEIGHT"))
    counter.add("shorter_side", _shorter_side(table.column("WIDTH"), table.column("HEIGHT")))
    counter.add("caption_chars", pc.utf8_length(table.column("TEXT")))
    counter.add("similarity", similarity_steps(table.column("similarity")))
    counter.add("nsfw", table.column("NSFW"))
    counter.add("license", table.column("LICENSE"))
    counter.add("domain", hosts(table.column("URL")))
    counter.add("source_file", table.column("source_file"))


def count_images(table: pa.Table, counter: Counter) -> None:
    """Count downloads by outcome, reason, original size of the images, and domain with its successes."""
    fetched = table.filter(pc.equal(table.column("status"), "success"))
    counter.add("status", table.column("status"))
    counter.add("reason", table.column("reason"))
    counter.add("width", fetched.column("original_width"))
    counter.add("height", fetched.column("original_height"))
    counter.add("shorter_side", _shorter_side(fetched.column("original_width"), fetched.column("original_height")))
    counter.add("domain", hosts(table.column("url")))
    counter.add("domain_success", hosts(fetched.column("url")))


def _shorter_side(width: pa.ChunkedArray, height: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.min_element_wise(width, height, skip_nulls=False)
