"""Counts add up for any split of the rows, and quantiles are exact."""

from collections import Counter as Tally
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laion_assets.stages.statistics import counts as counts_module
from laion_assets.stages.statistics.counts import (
    COUNTS_SCHEMA,
    Counter,
    at_least,
    bin_counts,
    hosts,
    most,
    of_measure,
    quantiles,
    similarity_steps,
    whole_numbers,
)

VALUES = st.lists(st.none() | st.integers(0, 30), max_size=60)


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(VALUES, max_size=5))
def test_parts_add_up_to_the_whole(parts: list[list[int | None]]) -> None:
    total = Counter()
    for values in parts:
        part = Counter()
        part.add("width", pa.array(values, pa.int32()))
        part.add("height", pa.array(values[::-1], pa.int32()))
        total.add_table(part.table())
    table = total.table()
    assert table.schema.equals(COUNTS_SCHEMA)
    expected = Tally(None if value is None else str(value) for values in parts for value in values)
    assert of_measure(table, "width") == of_measure(table, "height") == expected
    assert table.equals(table.sort_by([("measure", "ascending"), ("value", "ascending")]))


def test_many_distinct_values_are_compacted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts_module, "_COMPACT_ROWS", 50)
    counter = Counter()
    for number in range(200):
        counter.add("domain", pa.array([f"{number % 70}.test", "often.test"]))
        assert sum(table.num_rows for table in counter._tables) <= 200
    table = counter.table()
    assert of_measure(table, "domain") == {"often.test": 200, **{f"{n}.test": 3 if n < 60 else 2 for n in range(70)}}
    assert most(table, "domain", 3) == [("often.test", 200), ("0.test", 3), ("1.test", 3)]
    assert most(table, "width", 3) == []


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.integers(0, 1000), min_size=1), share=st.sampled_from([0.01, 0.25, 0.5, 0.9, 0.99, 1.0]))
def test_quantiles_are_those_of_the_rows(values: list[int], share: float) -> None:
    expected = np.quantile(values, share, method="inverted_cdf")
    assert quantiles(Tally(values), [share]) == {f"{share:g}": expected}


def test_no_rows_have_no_quantiles() -> None:
    assert quantiles({}, [0.5]) == {}
    assert Counter().table().num_rows == 0


def test_classes_and_bins() -> None:
    found = whole_numbers({"300": 2, None: 9, "100": 1, "1024": 4})
    assert list(found.items()) == [(100, 1), (300, 2), (1024, 4)]
    assert at_least(found, (100, 256, 1024, 2000)) == {"100": 7, "256": 6, "1024": 4, "2000": 0}
    assert bin_counts(found, [0, 100, 300, 301]) == [0, 1, 6]


def test_similarity_steps_are_exact_despite_binary_fractions() -> None:
    given_ = [0.3, 0.29, 0.0001, -0.00005, 1.0, 0.30009, None, 0.57]
    assert similarity_steps(pa.chunked_array([given_])).to_pylist() == [3000, 2900, 1, -1, 10000, 3000, None, 5700]


@pytest.mark.parametrize(
    "url",
    [
        "https://A.Test/1.jpg",
        "http://user:pass@b.test:8080?x",
        "ftp://c.test/x",
        "http://[2001:db8::1]:80/",
        "https://d.test#f",
        "data:image/png;base64,AAAA",
        "https:///nothing",
    ],
)
def test_hosts_equal_those_of_urlsplit(url: str) -> None:
    (host,) = hosts(pa.array([url])).to_pylist()
    assert (host or "").strip("[]") == (urlsplit(url).hostname or "")
