"""Find the shards of img2dataset in a folder and verify them. Nothing is changed."""

import os
import re
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import SHARD_DIGITS, ShardNumber
from laion_assets.errors import AdoptionError, LaionAssetsError
from laion_assets.processes.parent_death import end_with
from laion_assets.progress import Progress
from laion_assets.stages.adoption import Findings, listed_files, refuse_own_folder
from laion_assets.stages.image_shards.adoption.shard_files import REQUIRED, ShardFiles, VerifiedShard
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.image_shards.shard import tar_index
from laion_assets.stages.status import DatasetStatus
from laion_assets.store.store import Store

_FILE = re.compile(r"(\d+)(\.tar|\.parquet|_stats\.json|\.idx)", re.ASCII)
_IN_ONE_PROCESS = 8
"""Up to this number of shards are verified in this process: to start others takes as long."""


def find_shards(dataset: Dataset, store: Store, folder: Path, log: Callable[[str], None]) -> Findings:
    """Verify every shard of img2dataset in a folder, in parallel processes (`images.processes`).

    A shard that the dataset has already, but not from these files, is refused. Raises AdoptionError if the folder has
    no shard.
    """
    refuse_own_folder(dataset, store, folder)
    found = Findings()
    shards = list(_list_shards(dataset, folder, found))
    progress = Progress(log, "shards verified", len(shards), "rows")
    status = DatasetStatus(dataset)
    for files, verified in _verify_all(shards, dataset.images.processes):
        key = dataset.layout.shard_key(files.shard)
        if isinstance(verified, VerifiedShard):
            progress.add(1, verified.counts.rows_in)
            found.add(verified, status.state(IMAGE_SHARDS, verified.number), store)
        else:
            progress.add(1)
            found.refuse(key, verified)
    return found


def _list_shards(dataset: Dataset, folder: Path, found: Findings) -> Iterator[ShardFiles]:
    """Yield the complete shards of the dataset in a folder; refuse the others."""
    layout = dataset.layout
    numbers = layout.shard_numbers
    files, found.ignored = listed_files(folder, _FILE)
    by_name: dict[str, set[str]] = {}
    for match in files.values():
        by_name.setdefault(match[1], set()).add(match[2])
    if not by_name:
        raise AdoptionError(
            f"{folder} has no shards of img2dataset (00000.tar, 00000.parquet, 00000_stats.json). Name the "
            "output_folder of img2dataset with output_format=webdataset."
        )
    for name, suffixes in sorted(by_name.items()):
        if len(name) != SHARD_DIGITS:
            found.refuse(name, f"shard names have {SHARD_DIGITS} digits. Name the output_folder of img2dataset")
        elif int(name) not in numbers:
            found.refuse(
                name,
                f"{dataset.name} has the shards {layout.shard_key(numbers[0])} to {layout.shard_key(numbers[-1])} only",
            )
        elif missing := [suffix for suffix in REQUIRED if suffix not in suffixes]:
            unfinished = " (img2dataset writes it last: the shard is unfinished)" if missing == ["_stats.json"] else ""
            found.refuse(name, f"{name}{missing[0]} is missing{unfinished}")
        elif odd := [suffix for suffix in sorted(suffixes) if not (folder / f"{name}{suffix}").is_file()]:
            found.refuse(name, f"{name}{odd[0]} is not a file")
        else:
            yield ShardFiles(dataset, ShardNumber(int(name)), folder, tar_index.SUFFIX in suffixes)


def _verify_all(shards: list[ShardFiles], processes: int) -> Iterator[tuple[ShardFiles, VerifiedShard | str]]:
    """Yield each shard with the result of its verification or the reason why it does not fit."""
    workers = min(processes or len(os.sched_getaffinity(0)), len(shards))
    if workers <= 1 or len(shards) <= _IN_ONE_PROCESS:
        yield from zip(shards, map(_verify, shards), strict=True)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (os.getpid(),)) as pool:
        try:
            yield from zip(shards, pool.map(_verify, shards), strict=True)
        finally:
            pool.shutdown(cancel_futures=True)


def _verify(files: ShardFiles) -> VerifiedShard | str:
    try:
        return files.verify()
    except LaionAssetsError as error:
        return str(error)


def _start_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent handles it
    end_with(parent)
