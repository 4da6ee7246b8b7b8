"""Which rows of a batch `where` filters, and for which reason: a few vector operations for each filter that is set."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laion_assets.stages.dedup_parquet.rows.reasons import Filtered
from laion_assets.stages.dedup_parquet.rows.row_filter import RowFilter, covering, normal_host

_HOST = r"(?i)\Ahttps?://(?:[^/?#]*@)?(?P<host>\[[^\]]*\]|[^/?#:]*)"
PASSED = -1
FILTERS = list(Filtered)


def filtered(columns: dict[str, pa.Array], rows: int, where: RowFilter) -> np.ndarray | None:
    """(n,) int8: the place in `FILTERS` of the first filter that a row fails, `PASSED` if none; None if none is set.

    `columns` are those of `normalise.Typed`.
    """
    if not where.is_set:
        return None
    failed = np.full(rows, PASSED, np.int8)
    for reason, passes in _tests(columns, where):
        fails = ~pc.fill_null(passes, False).to_numpy(zero_copy_only=False)
        failed[fails & (failed == PASSED)] = FILTERS.index(reason)
    return failed


def _tests(columns: dict[str, pa.Array], where: RowFilter) -> Iterator[tuple[Filtered, pa.Array]]:
    """Each filter that is set, in the order of `Filtered`, and (n,) bool whether rows pass; null is no."""
    width, height = columns["WIDTH"], columns["HEIGHT"]
    yield from _bounds(Filtered.WIDTH, width, where.min_width, where.max_width)
    yield from _bounds(Filtered.HEIGHT, height, where.min_height, where.max_height)
    if where.min_area is not None or where.max_area is not None:
        area = pc.multiply(width.cast(pa.int64()), height.cast(pa.int64()))
        yield from _bounds(Filtered.AREA, area, where.min_area, where.max_area)
    if where.max_aspect is not None:
        longer = pc.max_element_wise(width, height, skip_nulls=False).cast(pa.float64())
        aspect = pc.divide(longer, pc.min_element_wise(width, height, skip_nulls=False).cast(pa.float64()))
        yield Filtered.ASPECT, pc.less_equal(aspect, where.max_aspect)
    yield from _bounds(Filtered.SIMILARITY, columns["similarity"], where.min_similarity, where.max_similarity)
    if where.nsfw:
        yield Filtered.NSFW, _listed(columns["NSFW"], where.nsfw)
    if where.licenses:
        yield Filtered.LICENSE, _listed(columns["LICENSE"], where.licenses)
    if where.min_caption_chars is not None or where.max_caption_chars is not None:
        length = pc.fill_null(pc.utf8_length(columns["TEXT"]), 0)
        yield from _bounds(Filtered.CAPTION_LENGTH, length, where.min_caption_chars, where.max_caption_chars)
    if where.allowed_domains or where.blocked_domains:
        yield Filtered.DOMAIN, _in_domains(columns["URL"], where)


def _bounds(
    reason: Filtered, values: pa.Array, least: float | None, most: float | None
) -> Iterator[tuple[Filtered, pa.Array]]:
    if least is not None:
        yield reason, pc.greater_equal(values, least)
    if most is not None:
        yield reason, pc.less_equal(values, most)


def _listed(texts: pa.Array, kept: tuple[str, ...]) -> pa.Array:
    lowered = pc.fill_null(pc.utf8_lower(texts), "")
    return pc.is_in(lowered, value_set=pa.array([each.lower() for each in kept], pa.string()))


def _in_domains(urls: pa.Array, where: RowFilter) -> pa.Array:
    """A host is looked up once a batch, however many rows it has."""
    hosts = pc.extract_regex(urls, _HOST).field("host").dictionary_encode()
    passes = [_host_passes(host, where) for host in hosts.dictionary.to_pylist()]
    return pc.fill_null(pa.array(passes, pa.bool_()).take(hosts.indices), not where.allowed_domains)


def _host_passes(host: str | None, where: RowFilter) -> bool:
    host = normal_host(host or "")
    if where.blocked_domains and covering(host, where.blocked) is not None:
        return False
    return not where.allowed_domains or covering(host, where.allowed) is not None
