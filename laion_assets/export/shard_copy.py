"""Write a webdataset shard from rows of committed shards. Samples are copied from the tars, never downloaded again.

    00000.tar          KEY.jpg, KEY.json, KEY.txt of each row, with the bytes of the source shard
    00000.parquet      the rows, with the columns of image_shards
    00000_stats.json   count, successes and statuses
    00000.idx          index of the tar, for DALI and NeMo Curator

Keys are kept. So every member has the bytes of its source, also the json, which has the key in it; a key still names
the shard and row that it came from; and shards of several exports of a dataset can be used together.
"""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

from laion_assets.dataset.identity import compute_uid
from laion_assets.dataset.image_formats import ENCODE_FORMATS
from laion_assets.dataset.layout import ShardNumber
from laion_assets.errors import IntegrityError, StoreError
from laion_assets.export.rows.ordered_rows import OrderedRows
from laion_assets.export.rows.shard_rows import ShardRows
from laion_assets.search.shard_samples import ShardSamples, read_samples
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.image_shards.shard.sample_tar import END_OF_ARCHIVE, write_member
from laion_assets.stages.image_shards.shard.tar_index import Member, format_index
from laion_assets.store.manifest import disagreement

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".tar", ".parquet", "_stats.json", ".idx")


def write_shard(source: ShardRows, rows: OrderedRows, start: int, stop: int, files: dict[str, Path]) -> int:
    """Write the rows from `start` to `stop` as a shard, to local paths by suffix. Return the bytes of its images.

    Raises IntegrityError naming the source shard if its tar does not have a sample, or has another row's.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = source.shard_schema
    tables, index = [schema.empty_table()], list[list[Member]]()
    with files[".tar"].open("w+b") as tar:
        for shard, table in rows.tables(start, stop, schema.names):
            tables.append(table)
            index += copy_samples(source, shard, table, tar)
        tar.write(END_OF_ARCHIVE)
        tar.write(bytes(-tar.tell() % tarfile.RECORDSIZE))
    table = pa.concat_tables(tables).combine_chunks()
    with pq.ParquetWriter(files[".parquet"], schema) as writer:
        if table.num_rows:
            writer.write_table(table)
    files[".idx"].write_text(format_index(index), encoding="ascii")
    files["_stats.json"].write_text(json.dumps(_stats(table.num_rows), indent=4), encoding="utf-8")
    return sum(member.size for sample in index for member in sample if member.extension in ENCODE_FORMATS)


def _stats(images: int) -> dict[str, object]:
    """Return the stats by img2dataset's names, without its times, which would differ between two exports."""
    return {
        "count": images,
        "successes": images,
        "failed_to_download": 0,
        "failed_to_resize": 0,
        "status_dict": {"success": images},
    }


def copy_samples(source: ShardRows, shard: ShardNumber, table: "pa.Table", out: IO[bytes]) -> list[list[Member]]:
    """Copy the samples of these rows of one shard to the end of a tar, and return their members in the new tar.

    The headers in the source are verified, and the uid in each sample's json. Raises IntegrityError.
    """
    manifest = source.manifest(shard)
    path = source.path(shard, ".tar")
    where = source.store.address(path)
    uids = dict(zip(table["key"].to_pylist(), table["uid"].to_pylist(), strict=True))
    begin = out.tell()

    def copy(samples: ShardSamples) -> list[list[Member]]:
        out.seek(begin)
        out.truncate()
        found = {sample[0].sample: sample for sample in _wanted(samples, uids)}
        return [_copy_sample(samples, found, key, uid, where, out) for key, uid in uids.items()]

    expected, size = manifest.entry(path).size, source.store.size(path)
    if size != expected:
        raise IntegrityError(f"{disagreement(source.store, manifest) or where}. Materialize {IMAGE_SHARDS} again.")
    try:
        return read_samples(source.store, path, copy)
    except (FileNotFoundError, StoreError, tarfile.TarError) as error:
        raise IntegrityError(f"{where} cannot be read: {error}. Materialize {IMAGE_SHARDS} again.") from error


def _wanted(samples: ShardSamples, uids: dict[str, str]) -> Iterator[list[Member]]:
    """Yield the wanted samples. A single one is looked up, without parsing the rest of the index."""
    if len(uids) == 1:
        found = samples.find(next(iter(uids)))
        return iter([found] if found else [])
    return (sample for sample in samples if sample[0].sample in uids)


def _copy_sample(
    samples: ShardSamples, found: dict[str, list[Member]], key: str, uid: str, where: str, out: IO[bytes]
) -> list[Member]:
    copied, is_checked = [], False
    for member in found.get(key, ()):
        content = samples.read(member)
        if member.extension == "json":
            is_checked = _belongs(content, uid)
        offset = out.tell() + tarfile.BLOCKSIZE
        write_member(out, member.name, content)
        copied.append(Member(member.name, offset, len(content)))
    if not is_checked or not any(member.extension in ENCODE_FORMATS for member in copied):
        raise IntegrityError(
            f"{where} has no image {key} of the row {uid}, which its parquet file lists. Materialize this shard again."
        )
    return copied


def _belongs(content: bytes, uid: str) -> bool:
    """Whether the json of a sample belongs to a uid. The json of an adopted shard has no uid, or another program's."""
    try:
        sample = json.loads(content)
    except ValueError:
        return False
    if not isinstance(sample, dict):
        return False
    url, caption = sample.get("url"), sample.get("caption")
    return sample.get("uid") == uid or (isinstance(url, str) and compute_uid(url, caption and str(caption)) == uid)
