"""The layout: which rows are in which shard, and which shards are in which parquet and embedding file.

With S shards, M parquet files and E embedding files, parquet file j has shards [j*S//M, (j+1)*S//M) and embedding file
i has shards [i*S//E, (i+1)*S//E). The counts are declared by a dataset, never derived from row counts.
"""

from dataclasses import dataclass
from functools import cached_property

from laion_assets.errors import LayoutError

SAMPLES_PER_SHARD_KEY = 10_000
"""img2dataset pads sample keys for this many samples per shard, whatever the rows per shard of a dataset."""
SHARD_DIGITS = 5
"""Digits of a shard name in img2dataset: `00000.tar`."""
HASH_BITS = 128
"""Bits of a uid (md5). The parquet files divide this hash space."""
MAX_SHARDS = 10**SHARD_DIGITS


@dataclass(frozen=True)
class Layout:
    """The declared counts of a dataset and the arithmetic over them. All ranges are half-open and ordered."""

    parquet_files: int
    shards: int
    embedding_files: int
    rows_per_shard: int
    window: tuple[int, int] | None = None
    """The half-open range of parquet files of a subset. Numbers and keys are those of the whole dataset."""

    def __post_init__(self) -> None:
        for name in ("parquet_files", "shards", "embedding_files", "rows_per_shard"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise LayoutError(f"{name} is {value!r}: it must be an integer.")
        if not 1 <= self.parquet_files <= self.shards or not 1 <= self.embedding_files <= self.shards:
            raise LayoutError(
                f"{self.parquet_files} parquet files and {self.embedding_files} embedding files do not fit "
                f"{self.shards} shards: each needs at least one shard. Lower parquet_files or embedding_files."
            )
        if self.shards > MAX_SHARDS:
            raise LayoutError(
                f"{self.shards:,} shards are too many: shard names have {SHARD_DIGITS} digits. "
                f"Use at most {MAX_SHARDS:,} shards."
            )
        if not 1 <= self.rows_per_shard <= SAMPLES_PER_SHARD_KEY:
            raise LayoutError(
                f"rows_per_shard is {self.rows_per_shard}: it must be from 1 to {SAMPLES_PER_SHARD_KEY:,}, "
                "because of the digits of sample keys."
            )

        first, end = self.window or (0, self.parquet_files)
        if not 0 <= first < end <= self.parquet_files:
            raise LayoutError(
                f"Invalid subset of parquet files {first}..{end - 1}: the dataset has 0..{self.parquet_files - 1}. "
                "Give the first and the last of them, in this order."
            )

    @cached_property
    def parquet_numbers(self) -> range:
        """The numbers of the parquet files: all of them, or those of the subset."""
        return range(*(self.window or (0, self.parquet_files)))

    @cached_property
    def shard_numbers(self) -> range:
        """The numbers of the shards of `parquet_numbers`."""
        parquets = self.parquet_numbers
        return range(self.shards_of_parquet(parquets[0]).start, self.shards_of_parquet(parquets[-1]).stop)

    @cached_property
    def embedding_numbers(self) -> range:
        """The numbers of the embedding files of `shard_numbers`. Those at the ends of a subset have only its shards."""
        shards = self.shard_numbers
        return range(self.embedding_of_shard(shards[0]), self.embedding_of_shard(shards[-1]) + 1)

    def shards_of_parquet(self, parquet: int) -> range:
        """Return the shards whose rows are in parquet file `parquet`."""
        return _slice(parquet, self.shards, self.parquet_files)

    def shards_of_embedding(self, embedding: int) -> range:
        """Return the shards whose samples are in embedding file `embedding`, limited to those of the subset."""
        whole, window = _slice(embedding, self.shards, self.embedding_files), self.shard_numbers
        return range(max(whole.start, window.start), min(whole.stop, window.stop))

    def parquet_of_shard(self, shard: int) -> int:
        """Return the parquet file with the rows of a shard."""
        return _owner(shard, self.shards, self.parquet_files)

    def embedding_of_shard(self, shard: int) -> int:
        """Return the embedding file with the samples of a shard."""
        return _owner(shard, self.shards, self.embedding_files)

    def row_group_of_shard(self, shard: int) -> int:
        """Return the row group of a shard in its parquet file."""
        return shard - self.shards_of_parquet(self.parquet_of_shard(shard)).start

    def rows_of_shard(self, position: int, shards: int, rows: int) -> range:
        """Return the rows of the shard at `position` of `shards` in a parquet file of `rows` rows."""
        return _slice(position, rows, shards)

    def check_rows(self, parquet: int, rows: int) -> None:
        """Raise LayoutError for a parquet file whose shards would have more than `rows_per_shard` rows."""
        shards = len(self.shards_of_parquet(parquet))
        largest = -(-rows // shards)
        if largest > self.rows_per_shard:
            raise LayoutError(
                f"Parquet file {self.parquet_key(parquet)} has {rows} rows for {shards} shards: {largest} rows per "
                f"shard, but rows_per_shard is {self.rows_per_shard}. Declare more shards in the dataset, or raise "
                f"rows_per_shard (at most {SAMPLES_PER_SHARD_KEY}). Nothing was written."
            )

    @cached_property
    def _range_starts(self) -> list[int]:
        """The first uid, as an integer, of the range of each parquet file: ceil(first_shard / shards * 2**128)."""
        space = 1 << HASH_BITS
        return [-(-(self.shards_of_parquet(j).start * space) // self.shards) for j in range(self.parquet_files)]

    def uid_range(self, parquet: int) -> tuple[int, int]:
        """Return the half-open range of uids, as 128-bit integers, of parquet file `parquet`."""
        starts = [*self._range_starts, 1 << HASH_BITS]
        return starts[parquet], starts[parquet + 1]

    def parquet_of_uid(self, uid: str) -> int:
        """Return the parquet file of a uid of 32 hex digits."""
        return self.parquet_of_shard(int(uid, 16) * self.shards >> HASH_BITS)

    def parquet_key(self, parquet: int) -> str:
        """Return the partition key of a parquet file: fixed width, digits only."""
        return f"{parquet:0{_width(self.parquet_files)}d}"

    def shard_key(self, shard: int) -> str:
        """Return the partition key and img2dataset name of a shard: 5 digits."""
        return f"{shard:0{SHARD_DIGITS}d}"

    def embedding_key(self, embedding: int) -> str:
        """Return the partition key and clip-retrieval number of an embedding file: int(log10(files)) + 1 digits."""
        return f"{embedding:0{len(str(self.embedding_files))}d}"

    def sample_key(self, shard: int, row: int) -> str:
        """Return the img2dataset key of a row of a shard: 9 digits."""
        return f"{shard * SAMPLES_PER_SHARD_KEY + row:0{SHARD_DIGITS + 4}d}"


def _slice(part: int, total: int, parts: int) -> range:
    if not 0 <= part < parts:
        raise LayoutError(f"{part} is outside of 0 to {parts - 1}.")
    return range(part * total // parts, (part + 1) * total // parts)


def _owner(item: int, total: int, parts: int) -> int:
    """Return the part whose slice contains `item`: the inverse of `_slice`."""
    if not 0 <= item < total:
        raise LayoutError(f"{item} is outside of 0 to {total - 1}.")
    return ((item + 1) * parts - 1) // total


def _width(count: int) -> int:
    return max(2, len(str(count - 1)))
