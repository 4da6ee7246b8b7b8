"""The files of one shard of img2dataset: verify them against each other, and commit them as a partition."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import ShardNumber
from laion_assets.errors import AdoptionError, IntegrityError
from laion_assets.reasons import DOWNLOAD_STATUS, RESIZE_STATUS
from laion_assets.stages.adoption import SourceFile, describe_source, digests_of, stage_source
from laion_assets.stages.dedup_parquet.handle import DedupParquet
from laion_assets.stages.image_shards.adoption.shard_table import in_order_of, read_shard_table
from laion_assets.stages.image_shards.adoption.verify import Sample, read_tar, verify_adopted
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS, ImageShards
from laion_assets.stages.image_shards.shard import tar_index
from laion_assets.stages.image_shards.shard.files import ShardCounts
from laion_assets.stages.image_shards.stage import STAGE
from laion_assets.stages.stage import UNCHECKED_INPUTS, inputs_digest
from laion_assets.store.manifest import ADOPTED, Counts, Manifest, read_manifest
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction

PROGRAM, OWN_PROGRAM = "img2dataset", "laion_assets"
"""The program that made the files; shards of another dataset of this project have the column `reason`."""
REQUIRED = (".tar", ".parquet", "_stats.json")
"""The files that img2dataset writes for each shard, the stats last."""
_MAX_STATS_BYTES = 64 << 20


@dataclass(frozen=True)
class ShardFiles:
    """The files of one shard in a folder: 00000.tar, 00000.parquet, 00000_stats.json and perhaps 00000.idx.

    Picklable: worker processes verify it.
    """

    dataset: Dataset
    shard: ShardNumber
    folder: Path
    has_index: bool

    def verify(self) -> "VerifiedShard":
        """Verify the files and their row-count invariant. Raises AdoptionError with the first problem."""
        import pyarrow.parquet as pq

        paths = {suffix: self.path(suffix) for suffix in REQUIRED + ((tar_index.SUFFIX,) if self.has_index else ())}
        try:
            sources = {suffix: SourceFile.read(path) for suffix, path in paths.items()}
            table = read_shard_table(sources[".parquet"].path, self.shard)
            is_own = "reason" in pq.read_schema(sources[".parquet"].path).names
            with sources[".tar"].path.open("rb") as tar:
                samples = read_tar(tar)
                counts = verify_adopted(tar, samples, table)
            lost = _check_stats(sources["_stats.json"], counts)
            if self.has_index:
                _check_index(sources[tar_index.SUFFIX], samples)
        except OSError as error:
            raise AdoptionError(f"{error.filename or 'a file'} cannot be read: {error.strerror or error}") from error
        limit = self.dataset.layout.rows_per_shard
        if counts.rows > limit:
            raise AdoptionError(
                f"it has {counts.rows:,} rows, and the dataset declares at most {limit:,} (rows_per_shard)"
            )
        return VerifiedShard(
            self,
            Counts(counts.rows, counts.successes, counts.reasons),
            counts.details,
            sources,
            self._check_rows(counts),
            lost,
            OWN_PROGRAM if is_own else PROGRAM,
        )

    def path(self, suffix: str) -> Path:
        """The path of one of the files."""
        return self.folder / f"{self.dataset.layout.shard_key(self.shard)}{suffix}"

    def _check_rows(self, counts: ShardCounts) -> str:
        """Return the digest of the shard's rows in dedup_parquet if that is committed: it must have the same rows."""
        layout = self.dataset.layout
        handle = DedupParquet.of(self.dataset, ())
        parquet = layout.parquet_of_shard(self.shard)
        source = read_manifest(handle.store, handle.asset, handle.key(layout, parquet))
        if source is None:
            return UNCHECKED_INPUTS
        expected = handle.shard_rows(self.shard, source).column("uid").to_pylist()
        found = sorted(counts.uids)
        if found != sorted(expected):
            missing, surplus = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
            named = f"uid {missing[0]} is missing" if missing else f"uid {(surplus or found)[0]} is not expected"
            raise AdoptionError(
                f"its {len(found):,} rows are not the {len(expected):,} rows of this shard in {handle.asset} "
                f"{source.key} ({len(missing):,} are missing, {len(surplus):,} are others; {named}). Leave this shard "
                "out and materialize it, or adopt shards into a dataset without rows of its own (another root)"
            )
        return inputs_digest(layout.shard_key(self.shard), [source])


@dataclass(frozen=True)
class VerifiedShard:
    """A shard that can be adopted. `inputs` is the digest of its rows. `lost` rows are only in img2dataset's stats."""

    files: ShardFiles
    counts: Counts
    details: dict[str, Any] = field(repr=False)
    files_found: dict[str, SourceFile]
    inputs: str
    lost: int
    program: str

    @property
    def key(self) -> str:
        """The key of the partition."""
        return self.files.dataset.layout.shard_key(self.files.shard)

    @property
    def number(self) -> int:
        """The number of the partition."""
        return self.files.shard

    @property
    def size(self) -> int:
        """The size of the source files, in bytes."""
        return sum(source.size for source in self.files_found.values())

    @property
    def sources(self) -> dict[str, str]:
        """The sha256 of each source file, by its name."""
        return digests_of(self.files.folder, list(self.files_found.values()))

    @property
    def note(self) -> str:
        """The rows that img2dataset lost."""
        return f"{self.lost:,} rows in img2dataset's stats are not in its parquet file" if self.lost else ""

    def commit(self, store: Store, copy: bool) -> Manifest:
        """Link or copy the tar, copy the stats and an index, and write the parquet file and a missing index.

        Raises AdoptionError if a file was changed after it was verified.
        """
        import pyarrow.parquet as pq

        layout, shard = self.files.dataset.layout, self.files.shard
        with open_transaction(store, IMAGE_SHARDS, self.key) as transaction:
            staged = {
                suffix: transaction.stage(ImageShards.path(layout, shard, suffix), repeatable=suffix in REQUIRED[:2])
                for suffix in (*REQUIRED, tar_index.SUFFIX)
            }
            method = stage_source(transaction, ImageShards.path(layout, shard, ".tar"), self.files_found[".tar"], copy)
            self.files_found["_stats.json"].place(staged["_stats.json"], copy=True)
            with staged[".tar"].open("rb") as tar:
                samples = read_tar(tar)
            if tar_index.SUFFIX in self.files_found:
                self.files_found[tar_index.SUFFIX].place(staged[tar_index.SUFFIX], copy=True)
            else:
                staged[tar_index.SUFFIX].write_text(tar_index.format_index(samples), encoding="ascii")
            table = read_shard_table(self.files_found[".parquet"].path, shard)
            self.files_found[".parquet"].check_unchanged()
            pq.write_table(in_order_of(table, [sample[0].sample for sample in samples]), staged[".parquet"])
            adopted = describe_source(self.program, self.files.folder, method, self.sources)
            return transaction.commit(
                self.counts,
                settings=STAGE.adopted_digest(self.files.dataset),
                inputs=self.inputs,
                details={**self.details, ADOPTED: {**adopted, "rows_lost": self.lost}},
            )


def _check_stats(source: SourceFile, counts: ShardCounts) -> int:
    """Compare img2dataset's stats with the files. Returns the number of rows that img2dataset lost (0 usually).

    img2dataset drops a row whose handling raises an error, and counts it only in `count`.
    """
    if source.size > _MAX_STATS_BYTES:
        raise AdoptionError(f"its stats have {source.size:,} bytes, so they are not img2dataset's")
    try:
        stats = json.loads(source.path.read_bytes())
        found = {name: int(stats[name]) for name in ("count", "successes", DOWNLOAD_STATUS, RESIZE_STATUS)}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AdoptionError(f"its stats are not img2dataset's ({type(error).__name__}: {error})") from error
    expected = {"successes": counts.successes} | {
        status: counts.statuses.get(status, 0) for status in (DOWNLOAD_STATUS, RESIZE_STATUS)
    }
    for name, number in expected.items():
        if found[name] != number:
            raise AdoptionError(f"its stats list {found[name]:,} {name}, and its parquet file has {number:,}")
    if found["count"] < counts.rows:
        raise AdoptionError(f"its stats list {found['count']:,} rows, and its parquet file has {counts.rows:,}")
    return found["count"] - counts.rows


def _check_index(source: SourceFile, samples: list[Sample]) -> None:
    try:
        index = tar_index.read_index(source.path.read_text(encoding="ascii"))
    except (IntegrityError, ValueError) as error:
        raise AdoptionError(f"its {source.path.name} is not an index of its tar: {error}") from error
    if index != samples:
        raise AdoptionError(f"its {source.path.name} belongs to another tar. Remove it: a new one is written")
