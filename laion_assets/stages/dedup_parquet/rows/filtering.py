"""The row filters of `dedup.where`, applied to a batch with a few vector operations per filter."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laion_assets.stages.dedup_parquet.rows.row_filter import RowFilter, find_covering_domain, normalise_host
from laion_assets.tables.row_reasons import Filtered

_HOST = r"(?i)\Ahttps?://(?:[^/?#]*@)?(?P<host>\[[^\]]*\]|[^/?#:]*)"
PASSED = -1
FILTERS = list(Filtered)


def find_filtered(columns: dict[str, pa.Array], rows: int, where: RowFilter) -> np.ndarray | None:
    """Find the first filter that each row fails. Returns None if no filter is set.

    The result is (n,) int8, an index in `FILTERS`, or `PASSED`. `columns` are those of `normalise.Typed`.
    """
    if not where.is_set:
        return None
    failed = np.full(rows, PASSED, np.int8)
    for reason, passes in _check_filters(columns, where):
        fails = ~pc.fill_null(passes, False).to_numpy(zero_copy_only=False)
        failed[fails & (failed == PASSED)] = FILTERS.index(reason)
    return failed


def _check_filters(columns: dict[str, pa.Array], where: RowFilter) -> Iterator[tuple[Filtered, pa.Array]]:
    """Yield each filter that is set, in the order of `Filtered`, with (n,) bool: whether a row passes. Null is no."""
    width, height = columns["WIDTH"], columns["HEIGHT"]
    yield from _check_bounds(Filtered.WIDTH, width, where.min_width, where.max_width)
    yield from _check_bounds(Filtered.HEIGHT, height, where.min_height, where.max_height)
    if where.min_area is not None or where.max_area is not None:
        area = pc.multiply(width.cast(pa.int64()), height.cast(pa.int64()))
        yield from _check_bounds(Filtered.AREA, area, where.min_area, where.max_area)
    if where.max_aspect is not None:
        longer = pc.max_element_wise(width, height, skip_nulls=False).cast(pa.float64())
        aspect = pc.divide(longer, pc.min_element_wise(width, height, skip_nulls=False).cast(pa.float64()))
        yield Filtered.ASPECT, pc.less_equal(aspect, where.max_aspect)
    yield from _check_bounds(Filtered.SIMILARITY, columns["similarity"], where.min_similarity, where.max_similarity)
    if where.nsfw:
        yield Filtered.NSFW, _is_listed(columns["NSFW"], where.nsfw)
    if where.licenses:
        yield Filtered.LICENSE, _is_listed(columns["LICENSE"], where.licenses)
    if where.min_caption_chars is not None or where.max_caption_chars is not None:
        length = pc.fill_null(pc.utf8_length(columns["TEXT"]), 0)
        yield from _check_bounds(Filtered.CAPTION_LENGTH, length, where.min_caption_chars, where.max_caption_chars)
    if where.allowed_domains or where.blocked_domains:
        yield Filtered.DOMAIN, _in_domains(columns["URL"], where)


def _check_bounds(
    reason: Filtered, values: pa.Array, least: float | None, most: float | None
) -> Iterator[tuple[Filtered, pa.Array]]:
    if least is not None:
        yield reason, pc.greater_equal(values, least)
    if most is not None:
        yield reason, pc.less_equal(values, most)


def _is_listed(texts: pa.Array, kept: tuple[str, ...]) -> pa.Array:
    lowered = pc.fill_null(pc.utf8_lower(texts), "")
    return pc.is_in(lowered, value_set=pa.array([each.lower() for each in kept], pa.string()))


def _in_domains(urls: pa.Array, where: RowFilter) -> pa.Array:
    """Look up each distinct host of a batch once."""
    hosts = pc.extract_regex(urls, _HOST).field("host").dictionary_encode()
    passes = [_is_host_kept(host, where) for host in hosts.dictionary.to_pylist()]
    return pc.fill_null(pa.array(passes, pa.bool_()).take(hosts.indices), not where.allowed_domains)


def _is_host_kept(host: str | None, where: RowFilter) -> bool:
    host = normalise_host(host or "")
    if where.blocked_domains and find_covering_domain(host, where.blocked) is not None:
        return False
    return not where.allowed_domains or find_covering_domain(host, where.allowed) is not None
