"""What a shard's files say, recounted from the files themselves: the law that a shard has to keep before it is
published, and that the asset checks show again later.

    tar members = 3 * successes, in the order of their keys: KEY.jpg (.png, .webp), KEY.json, KEY.txt, by the alphabet
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
from laion_assets.stages.image_shards.shard.sample_tar import has_exactly

SIZE_BUCKETS = (128, 256, 512, 1_024, 2_048, 4_096)
"""Upper bounds, in pixels of the longer side, of the histogram of original sizes; the last bucket is open."""


@dataclass(frozen=True)
class ShardCounts:
    """A shard recounted. `reasons` counts the rows without a picture, `statuses` are img2dataset's."""

    rows: int
    successes: int
    reasons: dict[str, int]
    statuses: dict[str, int]
    uids: tuple[str, ...] = field(repr=False)
    original_sizes: dict[str, int] = field(default_factory=dict)

    @property
    def stats(self) -> dict[str, Any]:
        """The counts as img2dataset's stats name them, and the reasons."""
        failures = {status: self.statuses.get(status, 0) for status in ("failed_to_download", "failed_to_resize")}
        return {"count": self.rows, "successes": self.successes, **failures, "reasons": self.reasons}

    @property
    def details(self) -> dict[str, Any]:
        """What a manifest says of the shard beside its counts."""
        return {"statuses": self.statuses, "original_sizes": self.original_sizes}


def verify(tar: Path | IO[bytes], parquet: Path | IO[bytes], name: str = "shard") -> ShardCounts:
    """Read a shard's tar and parquet as a whole and hold them against each other.

    Raises IntegrityError naming the first member, row or count that does not fit.
    """
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(parquet)
        rows = table.select(["key", "uid", "status", "reason"]).to_pylist()
    except (OSError, ValueError, KeyError) as error:
        raise IntegrityError(f"{name}: the parquet cannot be read ({error}): materialize this shard again.") from error
    keys = [row["key"] for row in rows]
    wrong = next((key for before, key in itertools.pairwise(keys) if key <= before), None)
    if wrong is not None:
        raise IntegrityError(
            f"{name}: the parquet holds {len(rows)} rows whose keys are not unique and in order ({wrong} comes again "
            "or too late): materialize this shard again."
        )
    for row in rows:
        if row["reason"] not in Reason._value2member_map_ or (row["reason"] == "success") != (
            row["status"] == "success"
        ):
            raise IntegrityError(f"{name}: row {row['key']} has status {row['status']} and reason {row['reason']}.")
    successes = {row["key"]: row["uid"] for row in rows if row["status"] == "success"}
    _check_members(tar, successes, name)
    outcomes = Counter(row["reason"] for row in rows)
    outcomes.pop("success", None)
    return ShardCounts(
        rows=len(rows),
        successes=len(successes),
        reasons=dict(sorted(outcomes.items())),
        statuses=dict(sorted(Counter(row["status"] for row in rows).items())),
        uids=tuple(row["uid"] for row in rows),
        original_sizes=_size_histogram(
            table.column("original_width").to_pylist(), table.column("original_height").to_pylist()
        ),
    )


def _check_members(tar: Path | IO[bytes], successes: dict[str, str], name: str) -> None:
    """Hold the tar against the parquet's successes: whole headers where all is well, else to say what is not."""
    try:
        with tar.open("rb") if isinstance(tar, Path) else contextlib.nullcontext(tar) as file:
            for picture in ENCODE_FORMATS:
                samples: dict[str, bytes] = {}
                if has_exactly(file, _wanted(successes, _members(picture)), samples):
                    for member, content in samples.items():
                        _check_sample(member, content, successes, name)
                    return
            file.seek(0)
            _check_in_turn(file, successes, name)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise IntegrityError(f"{name}: the tar cannot be read ({error}): materialize this shard again.") from error


def _check_in_turn(tar: IO[bytes], successes: dict[str, str], name: str) -> None:
    """Raises IntegrityError for the first member that is not as wanted; headers of another writer are no misfit."""
    with tarfile.open(fileobj=tar, mode="r:") as archive:
        wanted = _wanted(successes, _suffixes(archive))
        for member in archive:
            expected = next(wanted, None)
            if member.name != expected or not member.isreg():
                raise IntegrityError(
                    f"{name}: the tar holds {member.name} where the parquet wants {expected or 'the end'}."
                )
            if member.name.endswith(".json"):
                content = archive.extractfile(member).read()  # type: ignore[union-attr]
                if len(content) != member.size:
                    raise IntegrityError(f"{name}: {member.name} does not fit its row in the parquet (cut short).")
                _check_sample(member.name, content, successes, name)
        _check_end(archive, name)
    missing = next(wanted, None)
    if missing is not None:
        raise IntegrityError(f"{name}: the tar has no {missing}, which the parquet counts as a success.")


def _wanted(successes: dict[str, str], suffixes: list[str]) -> Iterator[str]:
    return (f"{key}.{suffix}" for key in successes for suffix in suffixes)


def _members(picture: str) -> list[str]:
    """The suffixes of one sample, in the order of the tar."""
    return sorted((picture, "json", "txt"))


def _suffixes(archive: tarfile.TarFile) -> list[str]:
    """The suffixes of one sample, in the order of the tar; the picture's format is the first sample's."""
    first = (member.name.rpartition(".")[2] for member in itertools.islice(archive, 3))
    picture = next((suffix for suffix in first if suffix in ENCODE_FORMATS), ENCODE_FORMATS[0])
    return _members(picture)


def _check_end(archive: tarfile.TarFile, name: str) -> None:
    """A tar ends in at least two blocks of zeros (POSIX ustar) and in nothing else."""
    file = cast(IO[bytes], archive.fileobj)
    last = archive.getmembers()[-1:]
    file.seek(end_of_data(last[0]) if last else 0)
    rest = file.read(2 * tarfile.RECORDSIZE)
    if any(rest) or not 2 * tarfile.BLOCKSIZE <= len(rest) <= tarfile.RECORDSIZE + tarfile.BLOCKSIZE:
        raise IntegrityError(f"{name}: the tar is cut short, or goes on after its end.")


def end_of_data(member: tarfile.TarInfo) -> int:
    """The first byte behind a member's data, which fills whole blocks."""
    return member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _check_sample(member: str, content: bytes, successes: dict[str, str], name: str) -> None:
    key = member.removesuffix(".json")
    try:
        sample = json.loads(content)
        if (sample["key"], sample["uid"]) != (key, successes[key]):
            raise ValueError("it is another row's")
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{name}: {member} does not fit its row in the parquet ({error}).") from error


def _size_histogram(widths: Sequence[int | None], heights: Sequence[int | None]) -> dict[str, int]:
    counts = dict.fromkeys([*(f"<={bound}" for bound in SIZE_BUCKETS), f">{SIZE_BUCKETS[-1]}"], 0)
    for width, height in zip(widths, heights, strict=True):
        if width is not None and height is not None:
            side = max(width, height)
            bucket = next((f"<={bound}" for bound in SIZE_BUCKETS if side <= bound), f">{SIZE_BUCKETS[-1]}")
            counts[bucket] += 1
    return counts
