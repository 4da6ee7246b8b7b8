"""One shard, from its rows of the deduplicated parquet to its published tar, parquet and stats.

img2dataset's Downloader does the work, with our opener, resizer and sample writer. A task is a small picklable value,
so that it runs in our process pool and in Spark alike; heavy libraries are imported inside `run()`.
"""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laion_assets.commit.manifest import Counts, disagreement
from laion_assets.commit.publication import Publication, publication, recover
from laion_assets.commit.store import Store
from laion_assets.datasets import Dataset
from laion_assets.errors import ConservationError, IntegrityError, ShardError
from laion_assets.freshness import inputs_digest, settings_digest
from laion_assets.handles import IMAGE_SHARDS, DedupParquet, ImageShards
from laion_assets.images.environment import quieten
from laion_assets.images.fetching.fetch import shared_fetcher
from laion_assets.images.fetching.opener import GuardedOpener, installed
from laion_assets.images.fetching.policy import FetchPolicy
from laion_assets.images.outcome import ShardOutcome
from laion_assets.images.reasons import Reason
from laion_assets.images.shard_files import ShardCounts, recount
from laion_assets.layout import SAMPLES_PER_SHARD_KEY, SHARD_DIGITS

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".tar", ".parquet", "_stats.json")
MIN_OWN_FAILURES = 5
"""A shard with fewer failures of our own side is published, whatever their share."""


@dataclass(frozen=True)
class ShardTask:
    """Make one shard of a dataset, unless it is complete. `force` makes it again."""

    dataset: Dataset
    shard: int
    force: bool = False

    @property
    def key(self) -> str:
        """The shard's partition key."""
        return self.dataset.layout.shard_key(self.shard)

    def run(self) -> ShardOutcome:
        """Fetch, resize, write, verify and publish the shard; a complete one is skipped.

        Raises IncompleteError if its rows are not published, IntegrityError if they or the files made are not what
        they should be, ShardError when it failed for reasons of our own side, ConservationError, ClaimError. Nothing is
        published then.
        """
        started = time.monotonic()
        store = Store.of(self.dataset)
        before = recover(store, IMAGE_SHARDS, self.key)
        inputs = self._inputs()
        settings = settings_digest(self.dataset, IMAGE_SHARDS)
        if (
            before is not None
            and not self.force
            and (before.settings, before.inputs) == (settings, inputs)
            and disagreement(store, before) is None
        ):
            return ShardOutcome(self.shard, before, True, round(time.monotonic() - started, 3))
        rows = self._rows(inputs)
        with publication(store, IMAGE_SHARDS, self.key) as attempt:
            staged, tally = self._make(attempt, rows)
            counts = self._verify(staged, rows)
            details = {
                **tally,
                "statuses": counts.statuses,
                "original_sizes": counts.original_sizes,
            }
            manifest = attempt.commit(
                Counts(counts.rows, counts.successes, counts.reasons), settings=settings, inputs=inputs, details=details
            )
        return ShardOutcome(self.shard, manifest, False, round(time.monotonic() - started, 3))

    def _inputs(self) -> str:
        parquet = self.dataset.layout.parquet_of_shard(self.shard)
        return inputs_digest(self.key, [DedupParquet.of(self.dataset, (parquet,)).manifest(parquet)])

    def _rows(self, inputs: str) -> "pa.Table":
        from laion_assets.metadata.identity import rows_digest

        layout = self.dataset.layout
        parquet = layout.parquet_key(layout.parquet_of_shard(self.shard))
        rows = DedupParquet(Store.of(self.dataset), layout, ()).shard_rows(self.shard)
        if rows_digest(rows) != inputs:
            raise IntegrityError(
                f"The rows of shard {self.key} in dedup_parquet {parquet} are not those of its manifest: the file was "
                f"altered. Materialize partition {parquet} of {self.dataset.name}/dedup_parquet again."
            )
        if rows.num_rows > SAMPLES_PER_SHARD_KEY:
            raise IntegrityError(f"Shard {self.key} has {rows.num_rows} rows; keys hold {SAMPLES_PER_SHARD_KEY}.")
        return rows

    def _make(self, attempt: Publication, rows: "pa.Table") -> tuple[dict[str, Path], dict[str, float]]:
        """Run img2dataset into the staging folder: the staged files by suffix, and the run's own figures."""
        quieten()
        from img2dataset.downloader import Downloader

        from laion_assets.images.resizer import ENCODE_FORMAT, GuardedResizer
        from laion_assets.images.sample_writer import SortedSampleWriter

        images = self.dataset.images
        work = attempt.folder / "work"
        work.mkdir()
        table = self._columns(rows)
        feather = work / "rows.feather"
        _write_feather(table, feather)
        expected = {
            self.dataset.layout.sample_key(self.shard, position): row for position, row in enumerate(table.to_pylist())
        }

        def sample_writer(*arguments: Any) -> SortedSampleWriter:
            return SortedSampleWriter(*arguments, expected=expected, keep_personal_exif=images.keep_personal_exif)

        opener = GuardedOpener(shared_fetcher(FetchPolicy.of(images, self.dataset.resolve)))
        downloader = Downloader(
            sample_writer_class=sample_writer,
            resizer=opener.consuming(GuardedResizer(images)),
            thread_count=max(1, min(images.threads, rows.num_rows)),
            save_caption=True,
            extract_exif=True,
            output_folder=str(work),
            column_list=table.column_names,
            timeout=images.deadline_s,
            number_sample_per_shard=SAMPLES_PER_SHARD_KEY,
            oom_shard_count=SHARD_DIGITS,
            compute_hash="sha256",
            verify_hash_type=None,
            encode_format=ENCODE_FORMAT,
            retries=0,  # ours are in the opener, which knows what is worth another try
            user_agent_token=None,
            disallowed_header_directives=None,  # judged in the opener, before the body is read
        )
        with installed(opener):
            downloader.download_shard((self.shard, str(feather)))
        staged = {
            suffix: attempt.stage(
                ImageShards.path(self.dataset.layout, self.shard, suffix), repeatable=suffix != "_stats.json"
            )
            for suffix in SUFFIXES
        }
        for suffix, path in staged.items():
            os.replace(work / f"{self.key}{suffix}", path)
        return staged, opener.tally.as_dict()

    def _columns(self, rows: "pa.Table") -> "pa.Table":
        """The rows as img2dataset's Downloader wants them: uid, additional columns, caption, url."""
        import pyarrow as pa

        additional = [name for name in self.dataset.images.additional_columns if name != "uid"]
        missing = [name for name in additional if name not in rows.column_names]
        if missing:
            raise ShardError(
                f"images.additional_columns names {', '.join(missing)}, which dedup_parquet does not have: it has "
                f"{', '.join(rows.column_names)}."
            )
        names = ["uid", *additional, "caption", "url"]
        sources = ["uid", *additional, "TEXT", "URL"]
        return pa.table({name: rows.column(source) for name, source in zip(names, sources, strict=True)})

    def _verify(self, staged: dict[str, Path], rows: "pa.Table") -> ShardCounts:
        """Recount the staged files and correct the stats by them.

        Raises ConservationError for a row too few or too many, ShardError when too many failed on our own side.
        """
        counts = recount(staged[".tar"], staged[".parquet"], f"shard {self.key}")
        if counts.uids != tuple(rows.column("uid").to_pylist()):
            raise ConservationError(
                f"Shard {self.key}: {rows.num_rows} rows went in and the parquet made of them has {counts.rows}, or "
                "others. Nothing was published; this is a defect of the stage, please report it with the run's log."
            )
        own, limit = counts.own_failures, self.dataset.images.max_own_failures
        if own >= MIN_OWN_FAILURES and own > limit * counts.rows:
            named = {reason: count for reason, count in counts.reasons.items() if Reason(reason).own_side}
            raise ShardError(
                f"Shard {self.key}: {own} of {counts.rows} rows failed for reasons of our own side {named}, more than "
                f"images.max_own_failures ({limit:g}) allows. Nothing was published. Check the resolver (DNS), the "
                "network and the disk of this machine, then run the shard again."
            )
        _correct_stats(staged["_stats.json"], counts)
        return counts


def _write_feather(table: "pa.Table", path: Path) -> None:
    """An Arrow IPC file, as img2dataset's Reader hands to its Downloader (which removes it at the end)."""
    import pyarrow as pa

    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def _correct_stats(path: Path, counts: ShardCounts) -> None:
    """Put the counts of the files themselves into img2dataset's stats (it does not count rows it lost), and reasons."""
    stats = json.loads(path.read_text())
    statuses = {status: counts.statuses.get(status, 0) for status in ("failed_to_download", "failed_to_resize")}
    stats |= {"count": counts.rows, "successes": counts.successes, **statuses, "reasons": counts.reasons}
    path.write_text(json.dumps(stats, indent=4))
