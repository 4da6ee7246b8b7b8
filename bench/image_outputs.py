"""Compare our shards with img2dataset's, row by row; images with different bytes by PSNR.

Must be equal: keys, captions, and the names and JSON of the tar members (except exif: ours has no personal tags). In
the parquet: names, order and types of the columns (except our last column `reason`), and all values except exif. Images
with different bytes are decoded and compared without the white border, which would raise the PSNR.
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
    """The result: `psnr` in dB, by key, of the images with different bytes, and a sentence for each difference."""

    rows: int = 0
    images: int = 0
    psnr: dict[str, float] = field(default_factory=dict)
    differences: list[str] = field(default_factory=list)

    @property
    def psnr_min(self) -> float | None:
        """The minimum PSNR, None if all images have equal bytes."""
        return min(self.psnr.values(), default=None)

    @property
    def psnr_median(self) -> float | None:
        """The median PSNR of the images with different bytes."""
        return float(np.median(list(self.psnr.values()))) if self.psnr else None

    def fields(self) -> dict[str, float | int | None]:
        """Return the fields of the benchmark's JSON. PSNR is null if all images have equal bytes."""
        return {
            "psnr_min": None if self.psnr_min is None else round(self.psnr_min, 2),
            "psnr_median": None if self.psnr_median is None else round(self.psnr_median, 2),
            "images_compared": self.images,
            "images_with_different_bytes": len(self.psnr),
            "differences": len(self.differences),
        }

    def describe(self) -> str:
        """Return two or three sentences."""
        lines = [f"{self.rows:,} rows and {self.images:,} images were compared with img2dataset's."]
        if self.psnr:
            lines.append(
                f"{len(self.psnr):,} images have different bytes: minimum PSNR {self.psnr_min:.1f} dB, "
                f"median {self.psnr_median:.1f} dB (without the border)."
            )
        else:
            lines.append("All images have equal bytes.")
        if self.differences:
            lines.append(f"{len(self.differences):,} DIFFERENCES:")
            lines.extend(f"  {difference}" for difference in self.differences[:_NAMED_DIFFERENCES])
        else:
            lines.append("Captions, keys, column names, order and types, and all values except exif are equal.")
        return "\n".join(lines)


def compare(ours: Path, stock: Path) -> Comparison:
    """Compare two folders of shards. Differences do not raise an error; they are in `differences`."""
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


def join(comparisons: list[Comparison]) -> Comparison:
    """Join several comparisons into one."""
    together = Comparison()
    for number, each in enumerate(comparisons):
        together.rows += each.rows
        together.images += each.images
        together.psnr |= {f"{number}/{key}": value for key, value in each.psnr.items()}
        together.differences += each.differences
    return together


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Return the PSNR of two uint8 images of equal shape, in dB (peak 255); infinite for equal images."""
    error = float(np.mean((one.astype(np.float32) - other.astype(np.float32)) ** 2))
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def crop_border(image: np.ndarray, original_width: int, original_height: int) -> np.ndarray:
    """Return a square image with border without its border."""
    side = image.shape[0]
    scale = side / max(original_width, original_height)
    high, wide = max(1, round(original_height * scale)), max(1, round(original_width * scale))
    top, left = (side - high) // 2, (side - wide) // 2
    return image[top : top + high, left : left + wide]


def _compare_tables(ours: Path, stock: Path, found: Comparison) -> dict[str, dict[str, Any]]:
    mine, theirs = pq.read_table(ours), pq.read_table(stock)
    columns = [(column.name, column.type) for column in mine.schema]
    if columns[-1][0] != "reason" or columns[:-1] != [(column.name, column.type) for column in theirs.schema]:
        found.differences.append(f"{ours.name}: the columns are {columns}, img2dataset's {theirs.schema}")
        return {}
    rows = {row["key"]: row for row in mine.to_pylist()}
    others = {row["key"]: row for row in theirs.to_pylist()}
    if list(rows) != sorted(others):
        found.differences.append(f"{ours.name}: the keys differ: {len(rows)} of ours, {len(others)} of img2dataset")
    for key in rows.keys() & others.keys():
        found.rows += 1
        found.differences.extend(
            f"{ours.name}: row {key}, column {name}: {rows[key][name]!r} and img2dataset's {others[key][name]!r}"
            for name in others[key]
            if name not in _FREE and rows[key][name] != others[key][name]
        )
    return rows


def _compare_tars(ours: Path, stock: Path, rows: dict[str, dict[str, Any]], found: Comparison) -> None:
    mine, theirs = dict(_read_members(ours)), dict(_read_members(stock))
    if list(mine) != sorted(theirs):
        found.differences.append(f"{ours.name}: the members differ: {len(mine)} of ours, {len(theirs)} of img2dataset")
    for name in sorted(mine.keys() & theirs.keys()):
        key, _, kind = name.partition(".")
        content, other = mine[name], theirs[name]
        if kind == "jpg":
            found.images += 1
            if content != other and key in rows:
                _compare_images(key, content, other, rows[key], found)
        elif kind == "json":
            sample, wanted = json.loads(content), json.loads(other)
            if list(sample) != list(wanted) or {**sample, "exif": 0} != {**wanted, "exif": 0}:
                found.differences.append(f"{ours.name}: {name} differs from img2dataset's")
        elif content != other:
            found.differences.append(f"{ours.name}: {name} differs from img2dataset's")


def _compare_images(key: str, content: bytes, other: bytes, row: dict[str, Any], found: Comparison) -> None:
    images = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) for data in (content, other)]
    if any(image is None for image in images) or images[0].shape != images[1].shape:
        found.differences.append(f"{key}.jpg does not decode to the shape of img2dataset's")
        return
    cropped = [crop_border(image, row["original_width"], row["original_height"]) for image in images]
    found.psnr[key] = psnr(*cropped)


def _read_members(tar: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(tar, "r:") as archive:
        for member in archive:
            yield member.name, archive.extractfile(member).read()  # type: ignore[union-attr]
