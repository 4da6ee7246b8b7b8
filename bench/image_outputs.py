"""Ours held against img2dataset's, shard by shard and row by row: what has to be equal is, and pixels by PSNR.

Equal: keys, captions, the members' names and JSON (exif apart: ours leaves out personal tags), and in the parquet the
columns' names, order and types, `reason` at the end apart, and every value but exif. A picture is equal byte by byte,
or it is compared as decoded, on the part of it that shows the photo: the white border would flatter.
"""

import json
import math
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq

_FREE = {"exif", "reason"}
_NAMED_DIFFERENCES = 5


@dataclass
class Comparison:
    """What was found: `psnr` in dB, by key, of the pictures whose bytes differ, and a sentence for each difference."""

    rows: int = 0
    pictures: int = 0
    psnr: dict[str, float] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)

    @property
    def psnr_min(self) -> float | None:
        """The least PSNR, None where every picture is equal byte by byte."""
        return min(self.psnr.values(), default=None)

    @property
    def psnr_median(self) -> float | None:
        """The median PSNR over the pictures whose bytes differ."""
        return float(np.median(list(self.psnr.values()))) if self.psnr else None

    def fields(self) -> dict[str, float | int | None]:
        """The fields of the bench's JSON; PSNR is null where every picture is equal byte by byte."""
        return {
            "psnr_min": None if self.psnr_min is None else round(self.psnr_min, 2),
            "psnr_median": None if self.psnr_median is None else round(self.psnr_median, 2),
            "pictures_compared": self.pictures,
            "pictures_with_other_bytes": len(self.psnr),
            "differences": len(self.differences),
        }

    def describe(self) -> str:
        """Two or three sentences for a person."""
        lines = [f"{self.rows:,} rows and {self.pictures:,} pictures were compared with img2dataset's."]
        if self.psnr:
            lines.append(
                f"{len(self.psnr):,} pictures have other bytes: PSNR at least {self.psnr_min:.1f} dB, "
                f"in the median {self.psnr_median:.1f} dB (without the border)."
            )
        else:
            lines.append("Every picture is equal byte by byte.")
        if self.differences:
            lines.append(f"{len(self.differences):,} DIFFERENCES:")
            lines.extend(f"  {difference}" for difference in self.differences[:_NAMED_DIFFERENCES])
        else:
            lines.append("Captions, keys, column names, order and types, and all values but exif are equal.")
        return "\n".join(lines)


def compare(ours: Path, stock: Path) -> Comparison:
    """Compare two folders of shards. Never raises for a difference; `differences` names each."""
    found = Comparison()
    names = [sorted(path.name for path in folder.glob("*.tar")) for folder in (ours, stock)]
    if names[0] != names[1] or not names[0]:
        found.differences.append(f"the shards are {names[0]} and img2dataset's {names[1]}")
        return found
    for name in names[0]:
        table = (name.removesuffix(".tar")) + ".parquet"
        rows = _compare_tables(ours / table, stock / table, found)
        _compare_tars(ours / name, stock / name, rows, found)
    return found


def joined(comparisons: list[Comparison]) -> Comparison:
    """Several comparisons as one."""
    together = Comparison()
    for number, each in enumerate(comparisons):
        together.rows += each.rows
        together.pictures += each.pictures
        together.psnr |= {f"{number}/{key}": value for key, value in each.psnr.items()}
        together.differences += each.differences
    return together


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two uint8 pictures of one shape, in dB (peak 255); infinite for equal ones."""
    error = float(np.mean((one.astype(np.float32) - other.astype(np.float32)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def shown_part(picture: np.ndarray, original_width: int, original_height: int) -> np.ndarray:
    """The part of a bordered, square picture that shows the photo."""
    side = picture.shape[0]
    scale = side / max(original_width, original_height)
    high, wide = max(1, round(original_height * scale)), max(1, round(original_width * scale))
    top, left = (side - high) // 2, (side - wide) // 2
    return picture[top : top + high, left : left + wide]


def _compare_tables(ours: Path, stock: Path, found: Comparison) -> dict[str, dict[str, Any]]:
    mine, theirs = pq.read_table(ours), pq.read_table(stock)
    columns = [(column.name, column.type) for column in mine.schema]
    if columns[-1][0] != "reason" or columns[:-1] != [(column.name, column.type) for column in theirs.schema]:
        found.differences.append(f"{ours.name}: the columns are {columns}, img2dataset's {theirs.schema}")
        return {}
    rows = {row["key"]: row for row in mine.to_pylist()}
    others = {row["key"]: row for row in theirs.to_pylist()}
    if list(rows) != sorted(others):
        found.differences.append(
            f"{ours.name}: it has {len(rows)} keys in order, img2dataset's {len(others)}, or others"
        )
    for key in rows.keys() & others.keys():
        found.rows += 1
        found.differences.extend(
            f"{ours.name}: row {key}, column {name}: {rows[key][name]!r} and img2dataset's {others[key][name]!r}"
            for name in others[key]
            if name not in _FREE and rows[key][name] != others[key][name]
        )
    return rows


def _compare_tars(ours: Path, stock: Path, rows: dict[str, dict[str, Any]], found: Comparison) -> None:
    mine, theirs = dict(_members(ours)), dict(_members(stock))
    if list(mine) != sorted(theirs):
        found.differences.append(
            f"{ours.name}: it has {len(mine)} members in order, img2dataset's {len(theirs)}, or others"
        )
    for name in sorted(mine.keys() & theirs.keys()):
        key, _, kind = name.partition(".")
        content, other = mine[name], theirs[name]
        if kind == "jpg":
            found.pictures += 1
            if content != other and key in rows:
                _compare_pictures(key, content, other, rows[key], found)
        elif kind == "json":
            sample, wanted = json.loads(content), json.loads(other)
            if list(sample) != list(wanted) or {**sample, "exif": 0} != {**wanted, "exif": 0}:
                found.differences.append(f"{ours.name}: {name} says other things than img2dataset's")
        elif content != other:
            found.differences.append(f"{ours.name}: {name} is not img2dataset's")


def _compare_pictures(key: str, content: bytes, other: bytes, row: dict[str, Any], found: Comparison) -> None:
    pictures = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) for data in (content, other)]
    if any(picture is None for picture in pictures) or pictures[0].shape != pictures[1].shape:
        found.differences.append(f"{key}.jpg does not decode to the shape of img2dataset's")
        return
    shown = [shown_part(picture, row["original_width"], row["original_height"]) for picture in pictures]
    found.psnr[key] = psnr(*shown)


def _members(tar: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(tar, "r:") as archive:
        for member in archive:
            yield member.name, archive.extractfile(member).read()  # type: ignore[union-attr]
