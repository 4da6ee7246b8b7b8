"""Prepare shards ahead of the encoder: verify and index the tar, tokenize captions, read metadata.

This work holds Python's interpreter lock, which the thread that feeds a GPU needs. So with a GPU, worker processes do
it (`embeddings.reader_processes`). Their results are small: offsets, tokens and an Arrow table. A tar whose sha256
differs from its manifest is never encoded.
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

from laion_assets.dataset.image_formats import ENCODE_FORMATS
from laion_assets.dataset.layout import Layout, ShardNumber
from laion_assets.errors import IntegrityError
from laion_assets.models.captions import clean_caption
from laion_assets.processes.parent_death import end_with
from laion_assets.stages.clip_embeddings.pipeline.open_tar import file_identity
from laion_assets.stages.clip_embeddings.pipeline.tar_members import (
    SampleMembers,
    UnexpectedMemberError,
    group_samples,
    list_members,
)
from laion_assets.stages.clip_embeddings.shard_reader import AGAIN, MEMBERS, first_difference, read_shard
from laion_assets.stages.image_shards.handle import ImageShards
from laion_assets.store.manifest import FileEntry, Manifest, compute_sha256
from laion_assets.store.store import Store

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

Tokenize = Callable[[list[str]], "np.ndarray"]
"""Captions to (n, context) int32 tokens."""
SHARDS_AHEAD = 3
"""Number of shards that are prepared ahead of the one being encoded, plus one for each worker process."""


@dataclass(frozen=True)
class ShardToPrepare:
    """A committed shard. Without `samples`, only its metadata is read: its vectors exist already."""

    store: Store
    layout: Layout
    shard: ShardNumber
    manifest: Manifest
    samples: bool = True


@dataclass(frozen=True)
class PreparedShard:
    """The parts of a shard that the encoder needs.

    `path` is the tar on a local disk, `images` the (offset, size) of each image in it, `tokens` (n, context) int32,
    `keys` the sample keys, `table` the rows of the shard's parquet file that have an image: row i of each is sample i.
    `identity` is that of the verified file (`file_identity`): a tar that was replaced since has another one. `is_copy`
    is True if the tar is a copy of a remote one, to be removed after use.
    """

    shard: ShardNumber
    keys: list[str]
    table: "pa.Table"
    path: Path | None = None
    images: tuple[tuple[int, int], ...] = ()
    tokens: "np.ndarray | None" = None
    identity: tuple[int, ...] = ()
    is_copy: bool = False


def prepare_shard(request: ShardToPrepare, tokenize: Tokenize) -> PreparedShard:
    """Verify and index one shard.

    Raises IntegrityError naming shard and member if tar, parquet file and manifest disagree.
    """
    table, keys = _read_parquet(request)
    if not request.samples:
        return PreparedShard(request.shard, keys, table)
    path, is_copy = _local_tar(request)
    try:
        with path.open("rb") as file, _Mapped(file) as mapped:
            identity = file_identity(file.fileno())
            if compute_sha256(file) != request.manifest.entry(".tar").sha256:
                _refuse(request, "altered: its sha256 differs from the manifest")
            samples = _list_samples(request, path, mapped)
            captions = [_read_caption(request, mapped, sample) for sample in samples]
    except BaseException:
        if is_copy:
            path.unlink(missing_ok=True)
        raise
    found = [sample.key for sample in samples]
    if found != keys:
        _refuse(
            request,
            first_difference(keys, found) or "its samples and the rows of its parquet file are in a different order",
        )
    images = tuple(sample.members[_image_suffix(request, sample)] for sample in samples)
    return PreparedShard(request.shard, keys, table, path, images, tokenize(captions), identity, is_copy)


class Preparation:
    """Prepares shards in worker processes, or in one thread of this process where `processes` is 0.

    Create it before the model is loaded: the processes import the tokenizer's package in the meantime.
    """

    def __init__(self, processes: int, imports: str = "") -> None:
        """Start the workers; they import the package `imports` first: `open_clip`, `clip` or none."""
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
        """Yield a future for each shard, in order; a few shards are prepared ahead.

        Processes require a picklable tokenizer.
        """
        pickled = pickle.dumps(tokenize) if self.processes else b""
        ahead: deque[Future[PreparedShard]] = deque()
        try:
            for request in shards:
                if self.processes:
                    ahead.append(self._pool.submit(_prepare_in_worker, request, pickled))
                else:
                    ahead.append(self._pool.submit(prepare_shard, request, tokenize))
                if len(ahead) > SHARDS_AHEAD + self.processes:
                    yield ahead.popleft()
            while ahead:
                yield ahead.popleft()
        finally:
            for future in ahead:
                future.cancel()

    def close(self) -> None:
        """Stop the worker processes."""
        self._pool.shutdown(cancel_futures=True)


def reader_processes(requested: int, on_gpu: bool, cores: int) -> int:
    """Return the number of worker processes: the requested number; for -1 none on a CPU, one per 5 cores with a GPU."""
    if requested >= 0:
        return requested
    return max(1, min(4, cores // 5)) if on_gpu else 0


def _start_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent handles it
    end_with(parent)


def _import(package: str) -> None:
    time.sleep(0.1)  # so that each process takes one of these tasks
    if package == "open_clip":
        from laion_assets.models.open_clip_package import import_open_clip

        import_open_clip()
    elif package == "clip":
        from laion_assets.models.model_packages import import_clip

        import_clip()


def _prepare_in_worker(request: ShardToPrepare, pickled: bytes) -> PreparedShard:
    return prepare_shard(request, _unpickle(pickled))


@functools.lru_cache(maxsize=1)
def _unpickle(pickled: bytes) -> Tokenize:
    from laion_assets.models.torchvision_shim import ensure_torchvision

    ensure_torchvision()
    return cast(Tokenize, pickle.loads(pickled))  # noqa: S301  (pickled by the parent process)


class _Mapped:
    """The content of an open file, mapped read-only; None for an empty file, which cannot be mapped."""

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


def _read_parquet(request: ShardToPrepare) -> tuple["pa.Table", list[str]]:
    """Read the rows of a shard's parquet file that have an image, and their keys."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    path = ImageShards.path(request.layout, request.shard, ".parquet")
    entry = request.manifest.entry(".parquet")
    content = request.store.read_bytes(path)
    if not _agrees(content, entry):
        raise IntegrityError(f"{request.store.address(path)}: altered: its sha256 differs from the manifest. {AGAIN}")
    table = pq.read_table(pa.BufferReader(content))
    table = table.filter(pc.equal(table["status"], "success")).combine_chunks()
    keys: list[str] = table["key"].to_pylist()
    return table, keys


def _agrees(content: bytes, entry: FileEntry) -> bool:
    return len(content) == entry.size and hashlib.sha256(content).hexdigest() == entry.sha256


def _local_tar(request: ShardToPrepare) -> tuple[Path, bool]:
    """Return the path of the tar on a local disk, and whether it is a temporary copy."""
    path = ImageShards.path(request.layout, request.shard, ".tar")
    local = request.store.local_path(path)
    if local is not None:
        if not local.exists():
            raise IntegrityError(f"{request.store.address(path)}: missing. {AGAIN}")
        return local, False
    handle, copy = tempfile.mkstemp(prefix="laion-assets-", suffix=".tar")
    os.close(handle)
    try:
        with request.store.open(path) as source, open(copy, "wb") as target:
            while chunk := source.read(8 << 20):
                target.write(chunk)
    except BaseException as error:
        os.unlink(copy)
        if isinstance(error, FileNotFoundError):
            raise IntegrityError(f"{request.store.address(path)}: missing. {AGAIN}") from error
        raise
    return Path(copy), True


def _list_samples(request: ShardToPrepare, path: Path, mapped: mmap.mmap | None) -> list[SampleMembers]:
    try:
        return group_samples(list_members(path, mapped), MEMBERS)
    except (tarfile.TarError, UnexpectedMemberError) as error:
        _refuse(request, str(error))


def _read_caption(request: ShardToPrepare, mapped: mmap.mmap | None, sample: SampleMembers) -> str:
    """Read the sample's caption, truncated for the tokenizer. Its json must name the sample."""
    assert mapped is not None
    try:
        offset, size = sample.members["json"]
        if json.loads(mapped[offset : offset + size])["key"] != sample.key:
            raise ValueError("its key differs")
        offset, size = sample.members["txt"]
        return clean_caption(mapped[offset : offset + size].decode("utf-8"))
    except (ValueError, KeyError, TypeError) as error:
        _refuse(request, f"member {sample.key}.json or .txt is invalid: {error}")


def _image_suffix(request: ShardToPrepare, sample: SampleMembers) -> str:
    suffixes = [suffix for suffix in ENCODE_FORMATS if suffix in sample.members]
    if len(suffixes) != 1:
        _refuse(request, f"sample {sample.key} has {len(suffixes)} images, expected 1")
    return suffixes[0]


def _refuse(request: ShardToPrepare, problem: str) -> NoReturn:
    """Raise IntegrityError: the problem that the slower, exact reader finds in the tar, or else this one."""
    for _ in read_shard(request.store, request.layout, request.shard, request.manifest):
        pass
    path = ImageShards.path(request.layout, request.shard, ".tar")
    raise IntegrityError(f"{request.store.address(path)}: {problem}. {AGAIN}")
