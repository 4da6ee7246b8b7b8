"""Build one shard, from its rows in dedup_parquet to the committed tar, parquet and stats.

A task is a small picklable value that runs in the process pool or in Spark. `run()` imports the heavy libraries.
"""

import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import SAMPLES_PER_SHARD_KEY, ShardNumber
from laion_assets.errors import IntegrityError, InvariantError, LocalFailureError, ShardError
from laion_assets.stages.dedup_parquet.handle import DedupParquet
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS, ImageShards
from laion_assets.stages.image_shards.local_failures.evidence import collect_evidence
from laion_assets.stages.image_shards.local_failures.network_memory import DETAIL, network_memory
from laion_assets.stages.image_shards.local_failures.watch import ShardWatch
from laion_assets.stages.image_shards.retry_reasons import GUARD_DETAIL, guard_digest, reasons_of_shard
from laion_assets.stages.image_shards.shard import tar_index
from laion_assets.stages.image_shards.shard.engines import fetch_rows
from laion_assets.stages.image_shards.shard.fetch import SUFFIXES
from laion_assets.stages.image_shards.shard.files import ShardCounts, verify
from laion_assets.stages.image_shards.shard.outcome import ShardOutcome
from laion_assets.stages.image_shards.shard.retry import retry_shard
from laion_assets.stages.image_shards.stage import STAGE
from laion_assets.stages.stage import inputs_digest
from laion_assets.stages.status import state_before_run
from laion_assets.store.local_failure_notes import note_local_failures
from laion_assets.store.manifest import Counts, Manifest, manifest_path, read_manifest
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction
from laion_assets.workers.task import Send, ignore

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class ShardTask:
    """Build one shard of a dataset unless it is complete. `force` rebuilds it.

    With `retry` (values of Reason), the rows of a complete shard that failed for these reasons are fetched again and
    merged into it.
    """

    dataset: Dataset
    shard: ShardNumber
    force: bool = False
    retry: tuple[str, ...] = ()

    @property
    def number(self) -> int:
        """The shard's number."""
        return self.shard

    @property
    def key(self) -> str:
        """The shard's partition key."""
        return self.dataset.layout.shard_key(self.shard)

    def run(self, send: Send = ignore) -> ShardOutcome:
        """Fetch, resize, write, verify and commit the shard, or retry its failed rows, or skip it. Sends no messages.

        Raises IncompleteError if its rows are not committed, IntegrityError for altered rows or wrong files,
        LocalFailureError for a local failure, ShardError if it cannot be retried, InvariantError, and LeaseError. Then
        nothing is committed, and an earlier commit stays.
        """
        started = time.monotonic()
        store = Store.of(self.dataset)
        parquet = self._read_source()
        inputs = inputs_digest(self.key, [parquet])
        settings = STAGE.settings_digest(self.dataset)
        adopted = STAGE.adopted_digest(self.dataset)
        state = state_before_run(
            store, STAGE, IMAGE_SHARDS, self.key, settings, inputs, adopted, self.dataset.rebuild_before
        )
        before = state.manifest
        if before is not None and state.is_complete and not self.force:
            if reasons := reasons_of_shard(self.dataset, before, self.retry):
                if before.is_adopted:
                    raise ShardError(
                        f"Shard {self.key} was adopted, so its failed rows cannot be fetched again. To download the "
                        f"whole shard, remove {store.address(manifest_path(IMAGE_SHARDS, self.key))} and materialize "
                        "it without retry."
                    )
                return self._retry(store, before, parquet, reasons, started)
            return ShardOutcome(self.shard, before, True, _seconds_since(started))
        if self.retry and (before is not None or read_manifest(store, IMAGE_SHARDS, self.key) is not None):
            raise ShardError(
                f"Shard {self.key} is stale or damaged. Only a complete shard with the current settings and rows can "
                "be retried. Materialize it without retry to rebuild it."
            )
        rows = self._read_rows(parquet)
        memory = network_memory(self.dataset, self.shard)
        watch = ShardWatch(collect_evidence(self.dataset, self.shard, memory))
        with (
            open_transaction(store, IMAGE_SHARDS, self.key) as transaction,
            note_local_failures(store, IMAGE_SHARDS, self.key),
        ):
            folder = transaction.folder / "work"
            fetched = fetch_rows(self.dataset, self.shard, rows, range(rows.num_rows), folder, watch)
            staged = {
                suffix: transaction.stage(
                    ImageShards.path(self.dataset.layout, self.shard, suffix), repeatable=suffix != "_stats.json"
                )
                for suffix in SUFFIXES
            }
            for suffix, path in staged.items():
                os.replace(fetched.files[suffix], path)
            counts = verify(staged[".tar"], staged[".parquet"], f"shard {self.key}")
            self._check(counts, rows)
            index = transaction.stage(
                ImageShards.path(self.dataset.layout, self.shard, tar_index.SUFFIX), repeatable=False
            )
            tar_index.write_index(staged[".tar"], index, counts.index)
            # The stats get the counts of the files, because img2dataset's own counts miss rows that it lost.
            stats = json.loads(staged["_stats.json"].read_text(encoding="utf-8")) | counts.stats
            staged["_stats.json"].write_text(json.dumps(stats, indent=4), encoding="utf-8")
            manifest = transaction.commit(
                Counts(counts.rows, counts.successes, counts.reasons),
                settings=settings,
                inputs=inputs,
                details={
                    **fetched.tally,
                    **counts.details,
                    DETAIL: list(fetched.failing),
                    GUARD_DETAIL: guard_digest(self.dataset),
                },
            )
        memory.shares.append(fetched.failing)
        return ShardOutcome(self.shard, manifest, False, _seconds_since(started))

    def _retry(
        self, store: Store, before: Manifest, parquet: Manifest, reasons: tuple[str, ...], started: float
    ) -> ShardOutcome:
        try:
            manifest, merged = retry_shard(self.dataset, store, self.shard, self._read_rows(parquet), before, reasons)
        except LocalFailureError as error:
            raise LocalFailureError(
                f"The retry of shard {self.key} ended with a local failure, and the shard is unchanged: {error}"
            ) from error
        seconds = _seconds_since(started)
        return ShardOutcome(self.shard, manifest, False, seconds, merged.replaced, merged.recovered)

    def _read_source(self) -> Manifest:
        """Return the manifest of the parquet file with the shard's rows."""
        parquet = self.dataset.layout.parquet_of_shard(self.shard)
        return DedupParquet.of(self.dataset, (parquet,)).manifest(parquet)

    def _read_rows(self, parquet: Manifest) -> "pa.Table":
        from laion_assets.dataset.identity import rows_digest

        rows = DedupParquet(Store.of(self.dataset), self.dataset.layout, ()).shard_rows(self.shard, parquet)
        if rows_digest(rows) != inputs_digest(self.key, [parquet]):
            raise IntegrityError(
                f"The rows of shard {self.key} in dedup_parquet {parquet.key} differ from its manifest: the file was "
                f"altered. Materialize partition {parquet.key} of {self.dataset.name}/dedup_parquet again."
            )
        if rows.num_rows > SAMPLES_PER_SHARD_KEY:
            raise IntegrityError(
                f"Shard {self.key} has {rows.num_rows} rows, but its keys allow for {SAMPLES_PER_SHARD_KEY} at most."
            )
        return rows

    def _check(self, counts: ShardCounts, rows: "pa.Table") -> None:
        """Check that the shard has exactly its rows. Raises InvariantError."""
        if counts.uids != tuple(rows.column("uid").to_pylist()):
            raise InvariantError(
                f"Shard {self.key}: its parquet has {counts.rows} rows for {rows.num_rows} input rows, or different "
                "ones. Nothing was committed. This is a bug in the stage. Please report it with the log of the run."
            )


def _seconds_since(started: float) -> float:
    return round(time.monotonic() - started, 3)
