"""What is counted of a table of `dedup_parquet`, and of a shard's parquet file."""

import pyarrow as pa
import pyarrow.compute as pc

from laion_assets.stages.statistics.counts import Counter, hosts, similarity_steps

DEDUP_COLUMNS = ("URL", "TEXT", "HEIGHT", "WIDTH", "LICENSE", "NSFW", "similarity", "source_file")
SHARD_COLUMNS = ("url", "status", "reason", "original_width", "original_height")


def count_rows(table: pa.Table, counter: Counter) -> None:
    """Measures of rows: sides, shorter side (px), caption length (characters), similarity, tags, domain, source."""
    counter.add("width", table.column("WIDTH"))
    counter.add("height", table.column("HEIGHT"))
    counter.add("shorter_side", _shorter(table.column("WIDTH"), table.column("HEIGHT")))
    counter.add("caption_chars", pc.utf8_length(table.column("TEXT")))
    counter.add("similarity", similarity_steps(table.column("similarity")))
    counter.add("nsfw", table.column("NSFW"))
    counter.add("license", table.column("LICENSE"))
    counter.add("domain", hosts(table.column("URL")))
    counter.add("source_file", table.column("source_file"))


def count_pictures(table: pa.Table, counter: Counter) -> None:
    """Measures of fetched pictures: outcome, reason, original sides where a picture came, domain with its successes."""
    good = table.filter(pc.equal(table.column("status"), "success"))
    counter.add("status", table.column("status"))
    counter.add("reason", table.column("reason"))
    counter.add("width", good.column("original_width"))
    counter.add("height", good.column("original_height"))
    counter.add("shorter_side", _shorter(good.column("original_width"), good.column("original_height")))
    counter.add("domain", hosts(table.column("url")))
    counter.add("domain_success", hosts(good.column("url")))


def _shorter(width: pa.ChunkedArray, height: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.min_element_wise(width, height, skip_nulls=False)
