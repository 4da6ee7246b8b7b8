"""Preparing shards for the encoder, ahead of it: tar verified and indexed, captions tokenized, metadata read.

All of it holds Python's interpreter lock, which the thread that feeds a GPU needs, so with a GPU it is done by worker
processes (`embeddings.reader_processes`); what comes back is small: offsets, tokens and an Arrow table. Nothing is
encoded from a tar whose sha256 is not its manifest's.
"""

import functools
import hashlib
import json
import mmap
import multiprocessing
import os
import pickle
import signal
import tarfile
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from laion_assets.dataset.layout import Layout, ShardNumber
from laion_assets.errors import IntegrityError
from laion_assets.processes.parent_death import end_with
from laion_assets.stages.clip_embeddings.models.captions import cleaned
from laion_assets.stages.clip_embeddings.pipeline.open_tar import file_identity
from laion_assets.stages.clip_embeddings.pipeline.tar_members import (
    SampleMembers,
    UnexpectedMemberError,
    group_samples,
    list_members,
)
from laion_assets.stages.clip_embeddings.shard_reader import AGAIN, MEMBERS, first_difference, read_shard
from laion_assets.stages.handles import ImageShards
from laion_assets.stages.image_shards.settings import ENCODE_FORMATS
from laion_assets.store.manifest import FileEntry, Manifest, sha256_of
from laion_assets.store.store import Store

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

Tokenize = Callable[[list[str]], "np.ndarray"]
"""Captions to (n, context) int32 tokens."""
SHARDS_AHEAD = 3
"""Shards prepared or being prepared while one is encoded; one more for each worker process."""


@dataclass(frozen=True)
class ShardToPrepare:
    """A committed shard. Without `samples` only its metadata is read, for vectors that exist already."""

    store: Store
    layout: Layout
    shard: ShardNumber
    manifest: Manifest
    samples: bool = True


@dataclass(frozen=True)
class PreparedShard:
    """What the encoder needs of a shard.

    `path` is the tar on a local disk, `images` the (offset, size) of each image in it, `tokens` (n, context) int32,
    `keys` the sample keys, `table` the rows of the shard's parquet file that have an image: row i of each is sample i.
    `identity` is the verified file's (`file_identity`): a tar replaced meanwhile is another file. `is_copy` tells that
    the tar is a copy of a remote one, to be removed after use.
    """

    shard: ShardNumber
    keys: list[str]
    table: "pa.Table"
    path: Path | None = None
    images: tuple[tuple[int, int], ...] = ()
    tokens: "np.ndarray | None" = None
    identity: tuple[int, ...] = ()
    is_copy: bool = False


def prepare_shard(asked: ShardToPrepare, tokenize: Tokenize) -> PreparedShard:
    """Verify and index one shard.

    Raises IntegrityError naming shard and member where tar, parquet and manifest disagree.
    """
    table, keys = _read_parquet(asked)
    if not asked.samples:
        return PreparedShard(asked.shard, keys, table)
    path, is_copy = _local_tar(asked)
    try:
        with path.open("rb") as file, _Mapped(file) as mapped:
            identity = file_identity(file.fileno())
            if sha256_of(file) != asked.manifest.entry(".tar").sha256:
                _refuse(asked, "altered, its sha256 is not the manifest's")
            samples = _list_samples(asked, path, mapped)
            captions = [_read_caption(asked, mapped, sample) for sample in samples]
    except BaseException:
        if is_copy:
            path.unlink(missing_ok=True)
        raise
    found = [sample.key for sample in samples]
    if found != keys:
        _refuse(asked, first_difference(keys, found) or "its samples are in another order than its parquet's rows")
    images = tuple(sample.members[_image_suffix(asked, sample)] for sample in samples)
    return PreparedShard(asked.shard, keys, table, path, images, tokenize(captions), identity, is_copy)


class Preparation:
    """Prepares shards in worker processes, or in one thread of this process where `processes` is 0.

    Start it before the model is loaded: the processes import what its tokenizer needs meanwhile.
    """

    def __init__(self, processes: int, imports: str = "") -> None:
        """`imports` is the package that the processes import at once: `open_clip`, `clip` or none."""
        self.processes = processes
        self._pool: Executor = (
            ProcessPoolExecutor(
                processes,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_start_worker,
                initargs=(os.getpid(),),
            )
            if processes
            else ThreadPoolExecutor(1, thread_name_prefix="prepare-shard")
        )
        for _ in range(processes):
            self._pool.submit(_import, imports)

    def prepare(self, shards: Iterable[ShardToPrepare], tokenize: Tokenize) -> Iterator["Future[PreparedShard]"]:
        """A future for each shard, in order; a few are worked on ahead of the one that is asked for.

        Processes need a tokenizer that can be pickled.
        """
        pickled = pickle.dumps(tokenize) if self.processes else b""
        ahead: deque[Future[PreparedShard]] = deque()
        try:
            for asked in shards:
                if self.processes:
                    ahead.append(self._pool.submit(_prepare_in_worker, asked, pickled))
                else:
                    ahead.append(self._pool.submit(prepare_shard, asked, tokenize))
                if len(ahead) > SHARDS_AHEAD + self.processes:
                    yield ahead.popleft()
            while ahead:
                yield ahead.popleft()
        finally:
            for future in ahead:
                future.cancel()

    def close(self) -> None:
        """End the worker processes."""
        self._pool.shutdown(cancel_futures=True)


def reader_processes(asked: int, on_gpu: bool) -> int:
    """The number of worker processes: as many as were asked for; for -1 none without a GPU, one for every 5 cores."""
    if asked >= 0:
        return asked
    return max(1, min(4, len(os.sched_getaffinity(0)) // 5)) if on_gpu else 0


def is_picklable(tokenizer: Callable[[list[str]], Any]) -> bool:
    """Whether a tokenizer can be sent to another process."""
    try:
        pickle.dumps(tokenizer)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return True


def _start_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    end_with(parent)


def _import(package: str) -> None:
    time.sleep(0.1)  # so that each process takes one of these tasks
    if package == "open_clip":
        from laion_assets.stages.clip_embeddings.models.open_clip_package import import_open_clip

        import_open_clip()
    elif package == "clip":
        from laion_assets.stages.clip_embeddings.models.model_packages import import_clip

        import_clip()


def _prepare_in_worker(asked: ShardToPrepare, pickled: bytes) -> PreparedShard:
    return prepare_shard(asked, _unpickled(pickled))


@functools.lru_cache(maxsize=1)
def _unpickled(pickled: bytes) -> Tokenize:
    from laion_assets.stages.clip_embeddings.models.torchvision_shim import ensure_torchvision

    ensure_torchvision()
    return cast(Tokenize, pickle.loads(pickled))  # noqa: S301  (made by the parent process)


class _Mapped:
    """An open file's content, mapped read-only; None for an empty file, which cannot be mapped."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.mapped: mmap.mmap | None = None

    def __enter__(self) -> mmap.mmap | None:
        if os.fstat(self._file.fileno()).st_size:
            self.mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return self.mapped

    def __exit__(self, *raised: object) -> None:
        if self.mapped is not None:
            self.mapped.close()


def _read_parquet(asked: ShardToPrepare) -> tuple["pa.Table", list[str]]:
    """The rows of a shard's parquet file that have an image, and their keys."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    path = ImageShards.path(asked.layout, asked.shard, ".parquet")
    entry = asked.manifest.entry(".parquet")
    content = asked.store.read_bytes(path)
    if not _agrees(content, entry):
        raise IntegrityError(f"{asked.store.address(path)}: altered, its sha256 is not the manifest's. {AGAIN}")
    table = pq.read_table(pa.BufferReader(content))
    table = table.filter(pc.equal(table["status"], "success")).combine_chunks()
    keys: list[str] = table["key"].to_pylist()
    return table, keys


def _agrees(content: bytes, entry: FileEntry) -> bool:
    return len(content) == entry.size and hashlib.sha256(content).hexdigest() == entry.sha256


def _local_tar(asked: ShardToPrepare) -> tuple[Path, bool]:
    """The tar on a local disk, and whether that is a copy made for the occasion."""
    path = ImageShards.path(asked.layout, asked.shard, ".tar")
    local = asked.store.local_path(path)
    if local is not None:
        if not local.exists():
            raise IntegrityError(f"{asked.store.address(path)}: missing. {AGAIN}")
        return local, False
    handle, copy = tempfile.mkstemp(prefix="laion-assets-", suffix=".tar")
    os.close(handle)
    try:
        with asked.store.open(path) as source, open(copy, "wb") as target:
            while chunk := source.read(8 << 20):
                target.write(chunk)
    except BaseException as error:
        os.unlink(copy)
        if isinstance(error, FileNotFoundError):
            raise IntegrityError(f"{asked.store.address(path)}: missing. {AGAIN}") from error
        raise
    return Path(copy), True


def _list_samples(asked: ShardToPrepare, path: Path, mapped: mmap.mmap | None) -> list[SampleMembers]:
    try:
        return group_samples(list_members(path, mapped), MEMBERS)
    except (tarfile.TarError, UnexpectedMemberError) as error:
        _refuse(asked, str(error))


def _read_caption(asked: ShardToPrepare, mapped: mmap.mmap | None, sample: SampleMembers) -> str:
    """The sample's caption, cut to what a tokenizer needs; its json has to name the sample."""
    assert mapped is not None
    try:
        offset, size = sample.members["json"]
        if json.loads(mapped[offset : offset + size])["key"] != sample.key:
            raise ValueError("another key")
        offset, size = sample.members["txt"]
        return cleaned(mapped[offset : offset + size].decode("utf-8"))
    except (ValueError, KeyError, TypeError) as error:
        _refuse(asked, f"member {sample.key}.json or .txt is damaged: {error}")


def _image_suffix(asked: ShardToPrepare, sample: SampleMembers) -> str:
    suffixes = [suffix for suffix in ENCODE_FORMATS if suffix in sample.members]
    if len(suffixes) != 1:
        _refuse(asked, f"sample {sample.key} has {len(suffixes)} images")
    return suffixes[0]


def _refuse(asked: ShardToPrepare, problem: str) -> NoReturn:
    """Raise IntegrityError: by what the slow and exact reader finds wrong with the tar, or with this problem."""
    for _ in read_shard(asked.store, asked.layout, asked.shard, asked.manifest):
        pass
    path = ImageShards.path(asked.layout, asked.shard, ".tar")
    raise IntegrityError(f"{asked.store.address(path)}: {problem}. {AGAIN}")
