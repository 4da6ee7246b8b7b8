"""Verify the files of an adopted shard: its tar, its parquet file and their row-count invariant.

img2dataset's tars differ from ours: samples are in the order in which their downloads finished, headers have pax
records with fractions of a second, and the json of a sample has no uid. So they are read with `tarfile`.
"""

import json
import tarfile
from collections import Counter
from typing import IO, TYPE_CHECKING

from laion_assets.dataset.image_formats import ENCODE_FORMATS
from laion_assets.errors import AdoptionError
from laion_assets.reasons import SUCCESS_STATUS
from laion_assets.stages.image_shards.shard.files import ShardCounts, count_sizes, end_of_data
from laion_assets.stages.image_shards.shard.tar_index import Member

if TYPE_CHECKING:
    import pyarrow as pa

Sample = list[Member]
"""The members of one sample, in the order of the tar."""
_MAX_TEXT_BYTES = 16 << 20
"""A larger json or txt is not read."""


def read_tar(tar: IO[bytes]) -> list[Sample]:
    """List the samples of a tar in order, from its headers.

    Raises AdoptionError naming the first member that does not belong to a complete sample, or for a truncated tar.
    """
    samples: list[Sample] = []
    seen: set[str] = set()
    tar.seek(0)
    end = 0
    try:
        with tarfile.open(fileobj=tar, mode="r:") as archive:
            for info in archive:
                archive.members = []  # type: ignore[attr-defined]
                member = Member(info.name, info.offset_data, info.size)
                if not info.isreg() or member.extension not in (*ENCODE_FORMATS, "json", "txt"):
                    raise AdoptionError(f"its tar has the unexpected member {info.name}")
                if not samples or samples[-1][0].sample != member.sample:
                    if member.sample in seen:
                        raise AdoptionError(f"its tar has the sample {member.sample} twice")
                    seen.add(member.sample)
                    samples.append([])
                samples[-1].append(member)
                end = end_of_data(info)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise AdoptionError(f"its tar is truncated or damaged after {len(samples):,} samples: {error}") from error
    tar.seek(end)
    rest = tar.read(4 * tarfile.RECORDSIZE)
    if len(rest) < 2 * tarfile.BLOCKSIZE or any(rest) or tar.read(1):
        raise AdoptionError("its tar is truncated, or has data after its end")
    for sample in samples:
        _check_complete(sample)
    return samples


def verify_adopted(tar: IO[bytes], samples: list[Sample], table: "pa.Table") -> ShardCounts:
    """Compare each sample of a tar with its row in the table and return the counts. The order is not compared.

    Raises AdoptionError with the first sample or row that does not match.
    """
    rows = {row["key"]: row for row in table.select(["key", "url", "caption", "status", "reason"]).to_pylist()}
    expected = {key for key, row in rows.items() if row["status"] == SUCCESS_STATUS}
    for sample in samples:
        key = sample[0].sample
        if key not in expected:
            raise AdoptionError(f"its tar has the sample {key}, which is not a success in its parquet file")
        expected.remove(key)
        _check_sample(tar, sample, rows[key])
    if expected:
        raise AdoptionError(f"its tar has no sample {min(expected)}, which is a success in its parquet file")
    outcomes = Counter(row["reason"] for row in rows.values() if row["status"] != SUCCESS_STATUS)
    return ShardCounts(
        rows=len(rows),
        successes=len(samples),
        reasons=dict(sorted(outcomes.items())),
        statuses=dict(sorted(Counter(row["status"] for row in rows.values()).items())),
        uids=tuple(table.column("uid").to_pylist()),
        original_sizes=count_sizes(*(table.column(f"original_{name}").to_pylist() for name in ("width", "height"))),
    )


def _check_complete(sample: Sample) -> None:
    extensions = [member.extension for member in sample]
    images = [extension for extension in extensions if extension in ENCODE_FORMATS]
    if len(images) != 1 or sorted(extensions) != sorted((images[0], "json", "txt")):
        raise AdoptionError(
            f"its tar has the sample {sample[0].sample} with {', '.join(extensions)}: expected an image, json and txt"
        )
    if not all(member.size for member in sample if member.extension != "txt"):
        raise AdoptionError(f"its tar has the sample {sample[0].sample} with an empty image or json")
    if any(member.size > _MAX_TEXT_BYTES for member in sample if member.extension not in ENCODE_FORMATS):
        raise AdoptionError(
            f"its tar has the sample {sample[0].sample} with a json or txt over {_MAX_TEXT_BYTES} bytes"
        )


def _check_sample(tar: IO[bytes], sample: Sample, row: dict[str, str | None]) -> None:
    """Check that json and txt of a sample are those of its row."""
    contents = {}
    for member in sample:
        if member.extension not in ENCODE_FORMATS:
            tar.seek(member.offset)
            contents[member.extension] = tar.read(member.size)
    key = row["key"]
    try:
        fields = json.loads(contents["json"])
        for name in ("key", "url", "caption"):
            if fields[name] != row[name]:
                raise ValueError(f"its {name} differs from that of the row")
        if contents["txt"].decode() != (row["caption"] or ""):
            raise ValueError("its txt differs from the caption of the row")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        problem = f"its json has no {error}" if isinstance(error, KeyError) else str(error)
        raise AdoptionError(f"the sample {key} of its tar does not match its row in the parquet file: {problem}") from (
            error
        )
