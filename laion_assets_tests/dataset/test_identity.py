"""uids, their partitions, and the digest of rows."""

import hashlib

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from laion_assets.dataset.identity import (
    Positions,
    compute_uid,
    digest_array,
    digest_column,
    halves,
    hex_column,
    rows_digest,
    uid_digests,
)
from laion_assets.dataset.layout import Layout


def test_uid_is_the_md5_of_url_nul_and_caption() -> None:
    assert compute_uid("http://a/", "b") == hashlib.md5(b"http://a/\0b").hexdigest()
    assert compute_uid("http://a/", None) == compute_uid("http://a/", "") == hashlib.md5(b"http://a/\0").hexdigest()
    urls, captions = pa.array(["x", "http://a/", "http://a/"]), pa.array(["y", "b", None])
    found = digest_column(uid_digests(urls.slice(1), captions.slice(1)))
    assert hex_column(found).to_pylist() == [compute_uid("http://a/", "b"), compute_uid("http://a/", "")]
    assert hex_column(found.slice(1)).to_pylist() == [compute_uid("http://a/", None)]
    assert len(uid_digests(urls.slice(3), captions.slice(3))) == 0


@given(st.lists(st.binary(min_size=16, max_size=16), min_size=1, max_size=20))
def test_halves_sort_like_the_bytes(digests: list[bytes]) -> None:
    high, low = halves(digest_column(digest_array(digests)).slice(1))
    assert [int(first) << 64 | int(last) for first, last in zip(high, low, strict=True)] == [
        int.from_bytes(digest, "big") for digest in digests[1:]
    ]


@given(st.lists(st.binary(min_size=16, max_size=16), max_size=20), st.integers(1, 9), st.integers(0, 30))
def test_positions_agree_with_the_layout(digests: list[bytes], parquets: int, more: int) -> None:
    layout = Layout(parquets, parquets + more, 1, 10)
    starts = [layout.uid_range(parquet)[0] for parquet in range(parquets)]
    edges = [edge.to_bytes(16, "big") for start in starts for edge in (start, max(start - 1, 0), start + 1)]
    asked = list(range(parquets))[::-2]
    for digest, found in zip(
        digests + edges, Positions(layout, asked).of(digest_array(digests + edges)).tolist(), strict=True
    ):
        parquet = layout.parquet_of_uid(digest.hex())
        assert found == (asked.index(parquet) if parquet in asked else -1)


def _table(texts: list[str | None], numbers: list[float | None]) -> pa.Table:
    return pa.table({"text": pa.array(texts, pa.string()), "number": pa.array(numbers, pa.float64())})


def test_digest_depends_only_on_values(tmp_path) -> None:
    table = _table(["a", None, "", "déjà"], [0.5, None, -1.0, 0.0])
    longer = _table(["x", "a", None, "", "déjà", "y"], [9.0, 0.5, None, -1.0, 0.0, 9.0])
    pq.write_table(table, tmp_path / "t.parquet", use_dictionary=True)
    chunks = pa.concat_tables([table.slice(0, 1), table.slice(1, 2), table.slice(3)])
    wide = pa.table({"text": table["text"].cast(pa.large_string()), "number": table["number"]})
    coded = pa.table({"text": table["text"].dictionary_encode(), "number": table["number"]})
    for same in (longer.slice(1, 4), chunks, wide, coded, pq.read_table(tmp_path / "t.parquet")):
        assert rows_digest(same) == rows_digest(table)


def test_digest_changes_with_every_value() -> None:
    table = _table(["a", None, "", "b"], [0.5, None, -1.0, 0.0])
    others = [
        _table(["a", "", "", "b"], [0.5, None, -1.0, 0.0]),
        _table(["a", None, "", "b"], [0.5, 0.0, -1.0, 0.0]),
        _table(["a", None, "b", ""], [0.5, None, -1.0, 0.0]),
        table.slice(0, 3),
        table.slice(0, 0),
        table.rename_columns(["text", "other"]),
        table.select(["number", "text"]),
    ]
    digests = {rows_digest(each) for each in [table, *others]}
    assert len(digests) == len(others) + 1


def test_digest_of_known_rows_does_not_change() -> None:
    """Manifests hold these digests: another value here makes every committed parquet file stale."""
    assert rows_digest(_table(["a", None], [0.5, None])) == "40676af6e258e9b1e14a213bc1517339"
