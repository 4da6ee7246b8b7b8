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

from laion_assets.commit.manifest import Counts, Manifest, read_manifest, sha256_of
from laion_assets.commit.publication import Publication, publication
from laion_assets.commit.store import Store
from laion_assets.datasets import Dataset
from laion_assets.errors import ConservationError, IntegrityError, ReplacedError, ShardError
from laion_assets.handles import IMAGE_SHARDS, ImageShards
from laion_assets.images.shard_fetch import SUFFIXES, FetchedRows, fetch_rows
from laion_assets.images.shard_files import recount
from laion_assets.images.shard_merge import Merged, merge_shard, merge_stats
from laion_assets.reasons import Reason

if TYPE_CHECKING:
    import pyarrow as pa

MIN_FAULTS = 5
"""Fewer rows than this that fail on our own side now, and did not before, never stop a retry."""
_MERGES = 20


def retry_shard(
    dataset: Dataset, store: Store, shard: int, rows: "pa.Table", before: Manifest, reasons: tuple[str, ...]
) -> tuple[Manifest, Merged]:
    """Fetch those of the shard's `rows` again that failed for `reasons`, merge them into it and publish it.

    `before` is the complete shard's manifest. Where another run publishes the shard meanwhile, what was fetched is
    merged into that one. Raises IntegrityError for files that were altered, ShardError when our own side is at
    fault (the resolver is down), ConservationError when a picture would be lost: what was published stays then.
    """
    import pyarrow.parquet as pq

    key = dataset.layout.shard_key(shard)
    with store.local_copy(ImageShards.path(dataset.layout, shard, ".parquet")) as path:
        found = pq.read_table(path, columns=["reason"]).column("reason").to_pylist()
    retried = {reason: count for reason, count in sorted(Counter(found).items()) if reason in reasons}
    positions = [place for place, reason in enumerate(found) if reason in reasons]
    with publication(store, IMAGE_SHARDS, key) as attempt:
        fetched = fetch_rows(dataset, shard, rows.take(positions), positions, attempt.folder / "work")
        _check_own_side(dataset, key, fetched, [found[place] for place in positions])
        for _ in range(_MERGES):
            try:
                return _publish_merged(dataset, store, shard, rows, before, retried, attempt, fetched)
            except ReplacedError:
                now = read_manifest(store, IMAGE_SHARDS, key)
                if now is None or (now.settings, now.inputs) != (before.settings, before.inputs):
                    raise
                before = now
    raise ReplacedError(f"Shard {key} was published by other runs {_MERGES} times while this one added to it.")


def _publish_merged(
    dataset: Dataset,
    store: Store,
    shard: int,
    rows: "pa.Table",
    before: Manifest,
    retried: dict[str, int],
    attempt: Publication,
    fetched: FetchedRows,
) -> tuple[Manifest, Merged]:
    layout = dataset.layout
    staged = {
        suffix: attempt.stage(ImageShards.path(layout, shard, suffix), repeatable=suffix != "_stats.json")
        for suffix in SUFFIXES
    }
    with (
        _opened(dataset, store, shard, before) as base,
        fetched.files[".tar"].open("rb") as new_tar,
        fetched.files[".parquet"].open("rb") as new_parquet,
    ):
        merged = merge_shard(base[".tar"], base[".parquet"], new_tar, new_parquet, staged[".tar"], staged[".parquet"])
        stats = base["_stats.json"].read()
    counts = recount(staged[".tar"], staged[".parquet"], f"shard {before.key}")
    if counts.uids != tuple(rows.column("uid").to_pylist()) or counts.successes < before.counts.rows_out:
        raise ConservationError(
            f"Shard {before.key}: a retry would leave {counts.rows} rows and {counts.successes} pictures of "
            f"{before.counts.rows_in} and {before.counts.rows_out}. Nothing was published; this is a defect of the "
            "stage, please report it with the run's log."
        )
    retries = [*before.details.get("retries", []), _history(retried, merged, fetched)]
    staged["_stats.json"].write_bytes(merge_stats(stats, counts, staged[".parquet"], retries))
    manifest = attempt.commit(
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
def _opened(dataset: Dataset, store: Store, shard: int, manifest: Manifest) -> Iterator[dict[str, IO[bytes]]]:
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


def _check_own_side(dataset: Dataset, key: str, fetched: FetchedRows, before: list[str]) -> None:
    """Raises ShardError when most rows whose fault was the site's now fail on our side: the network is down, here."""
    import pyarrow.parquet as pq

    now = pq.read_table(fetched.files[".parquet"], columns=["reason"]).column("reason").to_pylist()
    pairs = [Reason(reason) for reason, old in zip(now, before, strict=True) if not Reason(old).own_side]
    own, limit = sum(reason.own_side for reason in pairs), dataset.images.max_own_failures
    if own >= MIN_FAULTS and own > limit * len(pairs):
        raise ShardError(
            f"Shard {key}: {own} of {len(pairs)} rows that a site had refused failed for reasons of our own side when "
            f"they were retried, more than images.max_own_failures ({limit:g}) allows. The shard stays as it was. "
            "Check the resolver (DNS), the network and the disk of this machine, then retry again."
        )
