"""Lists of uids in every file format, and DataComp's uid array."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.layout import Layout
from laion_assets.errors import ExportError
from laion_assets.export.rows.uid_list import parse_uids, read_uid_list
from laion_assets.export.rows.uid_shards import shards_of_uids
from laion_assets.export.uid_array import write_uid_array
from laion_assets.store.manifest import manifest_path
from laion_assets.store.store import Store
from laion_assets_tests.stages.statistics.tables import commit_dedup, dedup_rows

UIDS = [hashlib.md5(bytes([number])).hexdigest() for number in range(200)]
EDGES = ["0" * 32, "f" * 32, "ab" + "0" * 30, "00" * 15 + "01", "80" + "0" * 30, "7f" * 16, "0" * 16 + "8" + "0" * 15]
"""Uids with zeros at both ends and with the highest bit set, which numpy could take for padding or for a sign."""


def _pairs(uids: list[str]) -> np.ndarray:
    """The array as DataComp's filters write it, from integers."""
    return np.array([divmod(int(uid, 16), 2**64) for uid in uids], "u8,u8")


def _table(uids: list[str]) -> pa.Table:
    return pa.table({"uid": uids})


def test_all_file_formats_give_the_same_list(tmp_path: Path) -> None:
    uids = [*UIDS, *EDGES]
    (tmp_path / "a.txt").write_text("\n" + "\r\n".join(uids) + "\n\n")
    (tmp_path / "upper.txt").write_text("\n".join(uids).upper(), encoding="utf-8-sig")
    pq.write_table(_table(uids), tmp_path / "a.parquet", row_group_size=7)
    np.save(tmp_path / "pairs.npy", _pairs(uids))
    np.save(tmp_path / "text.npy", np.array(uids))
    expected = sorted(bytes.fromhex(uid) for uid in uids)
    for path in tmp_path.iterdir():
        listed = read_uid_list(str(path))
        assert [uid.ljust(16, b"\0") for uid in listed.uids.tolist()] == expected, path.name
        assert listed.listed == len(uids)


def test_positions_of_uids_with_zeros_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(EDGES))
    listed = read_uid_list(str(tmp_path / "a.txt"))
    assert (listed.positions(parse_uids([*EDGES], "row")) >= 0).all()
    assert (listed.positions(parse_uids([*UIDS], "row")) == -1).all()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"00\n", "line 1 is not a uid: '00'"),
        ("a.txt", (UIDS[0] + "\n\n" + "g" * 32 + "\n").encode(), "line 3 is not a uid"),
        ("a.txt", (UIDS[0] + "\n" + UIDS[1][:30] + "\n" + UIDS[2] + "ab\n").encode(), "line 2 is not a uid"),
        ("a.txt", b"\x1b[2J\xff\n", "line 1 is not a uid"),
        ("a.csv", b"", "expected a file named"),
        ("a.npy", b"nonsense", "cannot be read as npy"),
        ("a.parquet", b"nonsense", "cannot be read as parquet"),
    ],
)
def test_a_wrong_list_is_refused_by_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ExportError, match=message):
        read_uid_list(str(tmp_path / name))


def test_arrays_of_other_types_pickles_and_other_columns_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "int.npy", np.arange(3))
    np.save(tmp_path / "flat.npy", np.zeros((2, 2), "u8,u8"))
    np.save(tmp_path / "pickle.npy", np.array([{}], object), allow_pickle=True)
    pq.write_table(pa.table({"id": ["x"]}), tmp_path / "other.parquet")
    for path, message in (
        ("int.npy", "dtype int64"), ("flat.npy", "shape"), ("pickle.npy", "npy"), ("other.parquet", "no column uid"),
        ("missing.txt", "does not exist"),
    ):  # fmt: skip
        with pytest.raises(ExportError, match=message):
            read_uid_list(str(tmp_path / path))


@pytest.mark.parametrize("uids", [sorted([*UIDS, *EDGES]), [*UIDS, *EDGES], [*UIDS, *UIDS[:9]], EDGES[:1], []])
def test_the_array_is_what_the_resharder_looks_up(tmp_path: Path, uids: list[str]) -> None:
    """DataComp's resharder counts a sample by `searchsorted` left and right of its uid."""
    path = tmp_path / "uids.npy"
    written = write_uid_array(path, [_table(uids[:5]), _table([]), _table(uids[5:])])
    subset = np.load(path, mmap_mode="r")
    assert subset.dtype == np.dtype("u8,u8")
    assert written == len(subset) == len(set(uids))
    assert (subset == np.sort(_pairs(sorted(set(uids))))).all()
    for uid in (UIDS[0], UIDS[150], EDGES[2], "5" * 32):
        key = _pairs([uid])[0]
        count = np.searchsorted(subset, key, "right") - np.searchsorted(subset, key, "left")
        assert count == (uid in uids)
    assert [each.name for each in tmp_path.iterdir()] == ["uids.npy"]


def test_uids_out_of_order_over_more_than_one_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laion_assets.export.uid_array._CHUNK", 7)
    uids = [*UIDS, *UIDS[:21], *EDGES]
    write_uid_array(tmp_path / "uids.npy", [_table(uids)])
    assert (np.load(tmp_path / "uids.npy") == _pairs(sorted(set(uids)))).all()


def test_the_shards_of_uids_are_found_from_footers(tmp_path: Path) -> None:
    dataset = replace(SAMPLE, root=str(tmp_path), layout=Layout(2, 6, 1, 50))
    uids = [f"{place:02x}" + "5" * 30 for place in range(0, 256, 4)]
    for parquet in range(2):
        listed = [uid for uid in uids if dataset.layout.parquet_of_uid(uid) == parquet]
        rows = [{**row, "uid": uid} for row, uid in zip(dedup_rows(1, len(listed)), listed, strict=True)]
        assert len(rows) == 32
        commit_dedup(dataset, parquet, rows)  # row groups of 15, 15 and 2 rows, one a shard
    assert shards_of_uids(dataset, [uids[0], uids[14]]) == [0]
    assert shards_of_uids(dataset, [uids[63], uids[15], uids[32]]) == [1, 3, 5]
    assert shards_of_uids(dataset, ["ff" * 16]) == []
    Store.of(dataset).delete(manifest_path("dedup_parquet", "01"))
    assert shards_of_uids(dataset, [uids[0]]) == [0]
    assert shards_of_uids(dataset, [uids[63]]) == list(range(6)), "shards that were adopted may have any uid"
