"""A retry: the failed rows of a finished shard are fetched again and merged into it.

The shard that stands is replaced as a whole, by the same commit as ever, or not at all: only while it is the one that
was merged with, and only by one that has every picture that it has.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import ShardNumber
from laion_assets.errors import IntegrityError, InvariantError, ReplacedError
from laion_assets.reasons import Reason
from laion_assets.stages.handles import IMAGE_SHARDS, ImageShards
from laion_assets.stages.image_shards.local_failures.evidence import evidence_of
from laion_assets.stages.image_shards.local_failures.failing_sites import site_of
from laion_assets.stages.image_shards.local_failures.network_memory import network_memory
from laion_assets.stages.image_shards.local_failures.watch import Evidence, ShardWatch
from laion_assets.stages.image_shards.shard import tar_index
from laion_assets.stages.image_shards.shard.engines import fetch_rows
from laion_assets.stages.image_shards.shard.fetch import SUFFIXES, FetchedRows
from laion_assets.stages.image_shards.shard.files import verify
from laion_assets.stages.image_shards.shard.merge import Merged, merge_shard, merge_stats
from laion_assets.store.manifest import Counts, Manifest, read_manifest, sha256_of
from laion_assets.store.store import Store
from laion_assets.store.transaction import Transaction, open_transaction

if TYPE_CHECKING:
    import pyarrow as pa

_MERGES = 20


def retry_shard(
    dataset: Dataset, store: Store, shard: ShardNumber, rows: "pa.Table", before: Manifest, reasons: tuple[str, ...]
) -> tuple[Manifest, Merged]:
    """Fetch those of the shard's `rows` again that failed for `reasons`, merge them into it and publish it.

    `before` is the complete shard's manifest. Where another run publishes the shard meanwhile, what was fetched is
    merged into that one. Raises IntegrityError for files that were altered, LocalFailureError when this machine or its
    network is at fault (the resolver is down), ConservationError when a picture would be lost: what was published
    stays then.
    """
    import pyarrow.parquet as pq

    key = dataset.layout.shard_key(shard)
    with store.local_copy(ImageShards.path(dataset.layout, shard, ".parquet")) as path:
        table = pq.read_table(path, columns=["reason", "url"])
    found = table.column("reason").to_pylist()
    retried = {reason: count for reason, count in sorted(Counter(found).items()) if reason in reasons}
    positions = [place for place, reason in enumerate(found) if reason in reasons]
    with open_transaction(store, IMAGE_SHARDS, key) as transaction:
        watch = ShardWatch(_evidence(dataset, shard, table.column("url").to_pylist(), found), judges_shares=False)
        fetched = fetch_rows(dataset, shard, rows.take(positions), positions, transaction.folder / "work", watch)
        for _ in range(_MERGES):
            try:
                return _publish_merged(dataset, store, shard, rows, before, retried, transaction, fetched)
            except ReplacedError:
                now = read_manifest(store, IMAGE_SHARDS, key)
                if now is None or (now.settings, now.inputs) != (before.settings, before.inputs):
                    raise
                before = now
    raise ReplacedError(f"Shard {key} was published by other runs {_MERGES} times while this one added to it.")


def _evidence(dataset: Dataset, shard: ShardNumber, urls: list[str], reasons: list[str]) -> Evidence:
    """The shard's own images are URLs that worked."""
    memory = network_memory(dataset, shard)
    for url, reason in zip(urls, reasons, strict=True):
        if reason == Reason.SUCCESS:
            parts = urlsplit(url)
            memory.worked(parts.scheme, site_of(parts.hostname or ""), url)
    return evidence_of(dataset, shard, memory)


def _publish_merged(
    dataset: Dataset,
    store: Store,
    shard: ShardNumber,
    rows: "pa.Table",
    before: Manifest,
    retried: dict[str, int],
    transaction: Transaction,
    fetched: FetchedRows,
) -> tuple[Manifest, Merged]:
    layout = dataset.layout
    staged = {
        suffix: transaction.stage(ImageShards.path(layout, shard, suffix), repeatable=suffix != "_stats.json")
        for suffix in SUFFIXES
    }
    with (
        _opened(dataset, store, shard, before) as base,
        fetched.files[".tar"].open("rb") as new_tar,
        fetched.files[".parquet"].open("rb") as new_parquet,
    ):
        merged = merge_shard(base[".tar"], base[".parquet"], new_tar, new_parquet, staged[".tar"], staged[".parquet"])
        stats = base["_stats.json"].read()
    counts = verify(staged[".tar"], staged[".parquet"], f"shard {before.key}")
    if counts.uids != tuple(rows.column("uid").to_pylist()) or counts.successes < before.counts.rows_out:
        raise InvariantError(
            f"Shard {before.key}: a retry would leave {counts.rows} rows and {counts.successes} pictures of "
            f"{before.counts.rows_in} and {before.counts.rows_out}. Nothing was published; this is a defect of the "
            "stage, please report it with the run's log."
        )
    index = transaction.stage(ImageShards.path(layout, shard, tar_index.SUFFIX), repeatable=False)
    tar_index.write_index(staged[".tar"], index)
    retries = [*before.details.get("retries", []), _history(retried, merged, fetched)]
    staged["_stats.json"].write_bytes(merge_stats(stats, counts, staged[".parquet"], retries))
    manifest = transaction.commit(
        Counts(counts.rows, counts.successes, counts.reasons),
        settings=before.settings,
        inputs=before.inputs,
        details={**before.details, **counts.details, "retries": retries},
        replaces=before,
    )
    return manifest, merged


def _history(retried: dict[str, int], merged: Merged, fetched: FetchedRows) -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "reasons": retried,
        "retried": sum(retried.values()),
        "recovered": merged.recovered,
        **fetched.tally,
    }


@contextlib.contextmanager
def _opened(dataset: Dataset, store: Store, shard: ShardNumber, manifest: Manifest) -> Iterator[dict[str, IO[bytes]]]:
    """The shard's published files by suffix, open, and the same as when they were published.

    Raises ReplacedError when another run has put others in their place, IntegrityError when they were altered.
    """
    with contextlib.ExitStack() as stack:
        files: dict[str, IO[bytes]] = {}
        for suffix in SUFFIXES:
            path = ImageShards.path(dataset.layout, shard, suffix)
            try:
                local: Path = stack.enter_context(store.local_copy(path))
                files[suffix] = stack.enter_context(local.open("rb"))
            except FileNotFoundError:
                files.clear()
                break
        altered = [suffix for suffix, file in files.items() if sha256_of(file) != manifest.entry(suffix).sha256]
        if altered or not files:
            if read_manifest(store, IMAGE_SHARDS, manifest.key) != manifest:
                raise ReplacedError(f"Shard {manifest.key} was published by another run while this one added to it.")
            path = ImageShards.path(dataset.layout, shard, (altered or [".tar"])[0])
            raise IntegrityError(
                f"{store.address(path)} was altered since it was published: a retry adds nothing to it. Remove the "
                f"manifest of image_shards {manifest.key} and materialize this partition again."
            )
        for file in files.values():
            file.seek(0)
        yield files
