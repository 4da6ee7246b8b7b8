"""Retry: fetch the failed rows of a complete shard again and merge them into it.

The commit replaces the shard as a whole or not at all. It requires that the committed shard is still the one that was
merged, and that the new one has every image of it.
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
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS, ImageShards
from laion_assets.stages.image_shards.local_failures.evidence import collect_evidence
from laion_assets.stages.image_shards.local_failures.failing_sites import find_site
from laion_assets.stages.image_shards.local_failures.network_memory import network_memory
from laion_assets.stages.image_shards.local_failures.watch import Evidence, ShardWatch
from laion_assets.stages.image_shards.retry_reasons import GUARD_DETAIL, REFUSED_BY_GUARD, guard_digest
from laion_assets.stages.image_shards.shard import tar_index
from laion_assets.stages.image_shards.shard.engines import fetch_rows
from laion_assets.stages.image_shards.shard.fetch import SUFFIXES, FetchedRows
from laion_assets.stages.image_shards.shard.files import ShardCounts, verify
from laion_assets.stages.image_shards.shard.merge import Merged, merge_shard, merge_stats
from laion_assets.store.manifest import Counts, Manifest, compute_sha256, read_manifest
from laion_assets.store.store import Store
from laion_assets.store.transaction import Transaction, open_transaction

if TYPE_CHECKING:
    import pyarrow as pa

_MERGES = 20


def retry_shard(
    dataset: Dataset, store: Store, shard: ShardNumber, rows: "pa.Table", before: Manifest, reasons: tuple[str, ...]
) -> tuple[Manifest, Merged]:
    """Fetch the shard's `rows` that failed for `reasons` again, merge them into the shard and commit it.

    `before` is the complete shard's manifest. If another run commits the shard in the meantime, the fetched rows are
    merged into that one. Raises IntegrityError for altered files, LocalFailureError for a local failure such as a
    resolver that is down, and InvariantError if an image would be lost. The committed shard stays in these cases.
    """
    import pyarrow.parquet as pq

    key = dataset.layout.shard_key(shard)
    with store.local_copy(ImageShards.path(dataset.layout, shard, ".parquet")) as path:
        table = pq.read_table(path, columns=["reason", "url"])
    found = table.column("reason").to_pylist()
    retried = {reason: count for reason, count in sorted(Counter(found).items()) if reason in reasons}
    positions = [place for place, reason in enumerate(found) if reason in reasons]
    with open_transaction(store, IMAGE_SHARDS, key) as transaction:
        watch = ShardWatch(_evidence(dataset, shard, table.column("url").to_pylist(), found), checks_shares=False)
        fetched = fetch_rows(dataset, shard, rows.take(positions), positions, transaction.folder / "work", watch)
        for _ in range(_MERGES):
            try:
                return _commit_merged(dataset, store, shard, rows, before, retried, transaction, fetched)
            except ReplacedError:
                now = read_manifest(store, IMAGE_SHARDS, key)
                if now is None or (now.settings, now.inputs) != (before.settings, before.inputs):
                    raise
                before = now
    raise ReplacedError(f"Other runs committed shard {key} {_MERGES} times during this retry. Run the retry again.")


def _evidence(dataset: Dataset, shard: ShardNumber, urls: list[str], reasons: list[str]) -> Evidence:
    """Return the evidence for a retry. URLs of the shard's images are URLs that worked."""
    memory = network_memory(dataset, shard)
    for url, reason in zip(urls, reasons, strict=True):
        if reason == Reason.SUCCESS:
            parts = urlsplit(url)
            memory.add_working_url(parts.scheme, find_site(parts.hostname or ""), url)
    return collect_evidence(dataset, shard, memory)


def _commit_merged(
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
        _open_committed(dataset, store, shard, before) as base,
        fetched.files[".tar"].open("rb") as new_tar,
        fetched.files[".parquet"].open("rb") as new_parquet,
    ):
        merged = merge_shard(base[".tar"], base[".parquet"], new_tar, new_parquet, staged[".tar"], staged[".parquet"])
        stats = base["_stats.json"].read()
    counts = verify(staged[".tar"], staged[".parquet"], f"shard {before.key}")
    if counts.uids != tuple(rows.column("uid").to_pylist()) or counts.successes < before.counts.rows_out:
        raise InvariantError(
            f"Shard {before.key}: the retry would leave {counts.rows} of {before.counts.rows_in} rows and "
            f"{counts.successes} of {before.counts.rows_out} images. Nothing was committed. This is a bug in the "
            "stage. Please report it with the log of the run."
        )
    index = transaction.stage(ImageShards.path(layout, shard, tar_index.SUFFIX), repeatable=False)
    tar_index.write_index(staged[".tar"], index, counts.index)
    retries = [*before.details.get("retries", []), _describe_retry(retried, merged, fetched)]
    staged["_stats.json"].write_bytes(merge_stats(stats, counts, staged[".parquet"], retries))
    manifest = transaction.commit(
        Counts(counts.rows, counts.successes, counts.reasons),
        settings=before.settings,
        inputs=before.inputs,
        details={**before.details, **counts.details, "retries": retries, **_guard_detail(dataset, retried, counts)},
        replaces=before,
    )
    return manifest, merged


def _guard_detail(dataset: Dataset, retried: dict[str, int], counts: ShardCounts) -> dict[str, str]:
    """Return the record of the guard's settings, if no row of the shard is left that older settings refused."""
    left = REFUSED_BY_GUARD & counts.reasons.keys()
    return {GUARD_DETAIL: guard_digest(dataset)} if left <= retried.keys() else {}


def _describe_retry(retried: dict[str, int], merged: Merged, fetched: FetchedRows) -> dict[str, Any]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "reasons": retried,
        "retried": sum(retried.values()),
        "recovered": merged.recovered,
        **fetched.tally,
    }


@contextlib.contextmanager
def _open_committed(
    dataset: Dataset, store: Store, shard: ShardNumber, manifest: Manifest
) -> Iterator[dict[str, IO[bytes]]]:
    """Open the shard's committed files, by suffix, and check that they are unchanged since the commit.

    Raises ReplacedError if another run has replaced them, IntegrityError if they were altered.
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
        altered = [suffix for suffix, file in files.items() if compute_sha256(file) != manifest.entry(suffix).sha256]
        if altered or not files:
            if read_manifest(store, IMAGE_SHARDS, manifest.key) != manifest:
                raise ReplacedError(f"Another run committed shard {manifest.key} during this retry.")
            path = ImageShards.path(dataset.layout, shard, (altered or [".tar"])[0])
            raise IntegrityError(
                f"{store.address(path)} was altered since its commit, so it cannot be retried. Delete the manifest of "
                f"image_shards {manifest.key} and materialize this partition again."
            )
        for file in files.values():
            file.seek(0)
        yield files
