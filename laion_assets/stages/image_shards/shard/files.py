"""Verify the row-count invariant of a shard from its files, before the commit and in the asset check.

tar members = 3 * successes, sorted by key: KEY.jpg (.png, .webp), KEY.json, KEY.txt, in alphabetical order
parquet rows = the shard's rows, in their order; successes + the sum over reasons = rows
"""

import contextlib
import itertools
import json
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from laion_assets.dataset.image_formats import ENCODE_FORMATS
from laion_assets.errors import IntegrityError
from laion_assets.reasons import Reason
from laion_assets.stages.image_shards.shard.sample_tar import find_members
from laion_assets.stages.image_shards.shard.tar_index import Member, format_index

SIZE_BUCKETS = (128, 256, 512, 1_024, 2_048, 4_096)
"""Upper bounds of the histogram of original sizes, in pixels of the longer side. The last bucket is unbounded."""


@dataclass(frozen=True)
class ShardCounts:
    """The counts of a shard's files. `reasons` counts the rows without an image, `statuses` are img2dataset's."""

    rows: int
    successes: int
    reasons: dict[str, int]
    statuses: dict[str, int]
    uids: tuple[str, ...] = field(repr=False)
    original_sizes: dict[str, int] = field(default_factory=dict)
    index: str | None = field(default=None, repr=False)
    """The index of the tar (`tar_index.py`), None for a tar with headers of another writer."""

    @property
    def stats(self) -> dict[str, Any]:
        """The counts by the names of img2dataset's stats, and the reasons."""
        failures = {status: self.statuses.get(status, 0) for status in ("failed_to_download", "failed_to_resize")}
        return {"count": self.rows, "successes": self.successes, **failures, "reasons": self.reasons}

    @property
    def details(self) -> dict[str, Any]:
        """The details of the manifest, in addition to its counts."""
        return {"statuses": self.statuses, "original_sizes": self.original_sizes}


def verify(tar: Path | IO[bytes], parquet: Path | IO[bytes], name: str = "shard") -> ShardCounts:
    """Read a shard's tar and parquet completely, compare them and return the counts.

    Raises IntegrityError with the first member, row or count that does not match.
    """
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(parquet)
        rows = table.select(["key", "uid", "status", "reason"]).to_pylist()
    except (OSError, ValueError, KeyError) as error:
        raise IntegrityError(f"{name}: the parquet cannot be read ({error}). Materialize this shard again.") from error
    keys = [row["key"] for row in rows]
    wrong = next((key for before, key in itertools.pairwise(keys) if key <= before), None)
    if wrong is not None:
        raise IntegrityError(
            f"{name}: the keys of the parquet's {len(rows)} rows are not unique and sorted ({wrong} is a duplicate or "
            "out of order). Materialize this shard again."
        )
    for row in rows:
        if row["reason"] not in Reason._value2member_map_ or (row["reason"] == "success") != (
            row["status"] == "success"
        ):
            raise IntegrityError(
                f"{name}: row {row['key']} has status {row['status']} and reason {row['reason']}, which do not match."
            )
    successes = {row["key"]: row["uid"] for row in rows if row["status"] == "success"}
    index = _check_members(tar, successes, name)
    outcomes = Counter(row["reason"] for row in rows)
    outcomes.pop("success", None)
    return ShardCounts(
        rows=len(rows),
        successes=len(successes),
        reasons=dict(sorted(outcomes.items())),
        statuses=dict(sorted(Counter(row["status"] for row in rows).items())),
        uids=tuple(row["uid"] for row in rows),
        original_sizes=count_sizes(
            table.column("original_width").to_pylist(), table.column("original_height").to_pylist()
        ),
        index=index,
    )


def _check_members(tar: Path | IO[bytes], successes: dict[str, str], name: str) -> str | None:
    """Compare the tar with the parquet's successes, and return its index, None for headers of another writer.

    Compares whole headers first, and member by member only if they differ.
    """
    try:
        with tar.open("rb") if isinstance(tar, Path) else contextlib.nullcontext(tar) as file:
            for image in ENCODE_FORMATS:
                samples: dict[str, bytes] = {}
                suffixes = _sample_suffixes(image)
                places = find_members(file, _expected_names(successes, suffixes), samples)
                if places is not None:
                    for member, content in samples.items():
                        _check_sample(member, content, successes, name)
                    members = map(Member, _expected_names(successes, suffixes), *zip(*places, strict=True))
                    return format_index([list(sample) for sample in zip(*[members] * len(suffixes), strict=True)])
            file.seek(0)
            _check_each_member(file, successes, name)
            return None
    except (tarfile.TarError, OSError, EOFError) as error:
        raise IntegrityError(f"{name}: the tar cannot be read ({error}). Materialize this shard again.") from error


def _check_each_member(tar: IO[bytes], successes: dict[str, str], name: str) -> None:
    """Check each member. Raises IntegrityError for the first wrong one. Headers may be another writer's."""
    with tarfile.open(fileobj=tar, mode="r:") as archive:
        names = _expected_names(successes, _read_suffixes(archive))
        for member in archive:
            expected = next(names, None)
            if member.name != expected or not member.isreg():
                raise IntegrityError(
                    f"{name}: the tar has {member.name}, but by the parquet the next member is {expected or 'none'}."
                )
            if member.name.endswith(".json"):
                content = archive.extractfile(member).read()  # type: ignore[union-attr]
                if len(content) != member.size:
                    raise IntegrityError(f"{name}: {member.name} does not match its row in the parquet (truncated).")
                _check_sample(member.name, content, successes, name)
        _check_end(archive, name)
    missing = next(names, None)
    if missing is not None:
        raise IntegrityError(f"{name}: the tar has no {missing}, but the parquet has it as a success.")


def _expected_names(successes: dict[str, str], suffixes: list[str]) -> Iterator[str]:
    return (f"{key}.{suffix}" for key in successes for suffix in suffixes)


def _sample_suffixes(image: str) -> list[str]:
    """Return the suffixes of one sample, in the order of the tar."""
    return sorted((image, "json", "txt"))


def _read_suffixes(archive: tarfile.TarFile) -> list[str]:
    """Return the suffixes of one sample, in the order of the tar. The image format is that of the first sample."""
    first = (member.name.rpartition(".")[2] for member in itertools.islice(archive, 3))
    image = next((suffix for suffix in first if suffix in ENCODE_FORMATS), ENCODE_FORMATS[0])
    return _sample_suffixes(image)


def _check_end(archive: tarfile.TarFile, name: str) -> None:
    """Check that the tar ends in at least two blocks of zeros (POSIX ustar) and nothing else. Raises IntegrityError."""
    file = cast(IO[bytes], archive.fileobj)
    last = archive.getmembers()[-1:]
    file.seek(end_of_data(last[0]) if last else 0)
    rest = file.read(2 * tarfile.RECORDSIZE)
    if any(rest) or not 2 * tarfile.BLOCKSIZE <= len(rest) <= tarfile.RECORDSIZE + tarfile.BLOCKSIZE:
        raise IntegrityError(f"{name}: the tar is truncated, or has data after its end.")


def end_of_data(member: tarfile.TarInfo) -> int:
    """Return the offset after a member's data, which is padded to whole blocks."""
    return member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _check_sample(member: str, content: bytes, successes: dict[str, str], name: str) -> None:
    key = member.removesuffix(".json")
    try:
        sample = json.loads(content)
        if (sample["key"], sample["uid"]) != (key, successes[key]):
            raise ValueError("it belongs to another row")
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{name}: {member} does not match its row in the parquet ({error}).") from error


def count_sizes(widths: Sequence[int | None], heights: Sequence[int | None]) -> dict[str, int]:
    """Count images by the bucket of their longer side, in pixels; those without a size are left out."""
    counts = dict.fromkeys([*(f"<={bound}" for bound in SIZE_BUCKETS), f">{SIZE_BUCKETS[-1]}"], 0)
    for width, height in zip(widths, heights, strict=True):
        if width is not None and height is not None:
            side = max(width, height)
            bucket = next((f"<={bound}" for bound in SIZE_BUCKETS if side <= bound), f">{SIZE_BUCKETS[-1]}")
            counts[bucket] += 1
    return counts
