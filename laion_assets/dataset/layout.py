"""The layout: which rows are in which shard, and which shards are in which parquet and embedding file.

With S shards, M parquet files and E embedding files, parquet file j holds shards [j*S//M, (j+1)*S//M) and embedding
file i holds shards [i*S//E, (i+1)*S//E). The counts are declared by a dataset, never derived from row counts.

Numbers of shards, parquet files and embedding files have distinct types, so that a type checker reports a mix-up. At
run time they are plain integers, and partition keys plain strings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NewType, TypeVar, cast

from laion_assets.errors import LayoutError

ShardNumber = NewType("ShardNumber", int)
"""Number of a shard in its dataset, from 0."""
ParquetNumber = NewType("ParquetNumber", int)
"""Number of a deduplicated parquet file in its dataset, from 0."""
EmbeddingNumber = NewType("EmbeddingNumber", int)
"""Number of an embedding file in its dataset, from 0."""
PartitionKey = NewType("PartitionKey", str)
"""Partition key in Dagster, also a part of file names: digits of fixed width."""

if TYPE_CHECKING:
    NumberT = TypeVar("NumberT", bound=int, covariant=True)

    class Numbers(Sequence[NumberT]):
        """A `range` of consecutive numbers of one type."""

        start: NumberT
        stop: int

else:
    Numbers = Sequence

SAMPLES_PER_SHARD_KEY = 10_000
"""img2dataset pads sample keys for this many samples per shard, independent of the dataset's rows per shard."""
SHARD_DIGITS = 5
"""Digits of a shard name in img2dataset: `00000.tar`."""
HASH_BITS = 128
"""Bits of a uid (md5). The parquet files divide this hash space."""
MAX_SHARDS = 10**SHARD_DIGITS


@dataclass(frozen=True)
class Layout:
    """The declared counts of a dataset, and the arithmetic over them. All ranges are half-open and in order.

    Raises LayoutError for counts that do not fit each other.
    """

    parquet_files: int
    shards: int
    embedding_files: int
    rows_per_shard: int
    window: tuple[int, int] | None = None
    """First and end of the parquet files of a subset. All numbers and keys stay those of the whole dataset."""

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
                f"Invalid subset of parquet files, {first}..{end - 1}: the dataset has 0..{self.parquet_files - 1}. "
                "Name the first and the last of those, in this order."
            )

    @cached_property
    def parquet_numbers(self) -> Numbers[ParquetNumber]:
        """The parquet files: all of them, or those of the subset."""
        return cast("Numbers[ParquetNumber]", range(*(self.window or (0, self.parquet_files))))

    @cached_property
    def shard_numbers(self) -> Numbers[ShardNumber]:
        """The shards of `parquet_numbers`."""
        parquets = self.parquet_numbers
        first, last = self.shards_of_parquet(parquets[0]), self.shards_of_parquet(parquets[-1])
        return cast("Numbers[ShardNumber]", range(first.start, last.stop))

    @cached_property
    def embedding_numbers(self) -> Numbers[EmbeddingNumber]:
        """The embedding files that hold samples of `shard_numbers`; at a subset's ends they hold only its own."""
        shards = self.shard_numbers
        first, last = self.embedding_of_shard(shards[0]), self.embedding_of_shard(shards[-1])
        return cast("Numbers[EmbeddingNumber]", range(first, last + 1))

    def shards_of_parquet(self, parquet: ParquetNumber) -> Numbers[ShardNumber]:
        """The shards whose rows parquet file `parquet` holds."""
        return cast("Numbers[ShardNumber]", _slice(parquet, self.shards, self.parquet_files))

    def shards_of_embedding(self, embedding: EmbeddingNumber) -> Numbers[ShardNumber]:
        """The shards whose samples embedding file `embedding` holds; in a subset, only the shards of the subset."""
        whole, window = _slice(embedding, self.shards, self.embedding_files), self.shard_numbers
        return cast("Numbers[ShardNumber]", range(max(whole.start, window.start), min(whole.stop, window.stop)))

    def parquet_of_shard(self, shard: ShardNumber) -> ParquetNumber:
        """The parquet file that holds a shard's rows."""
        return ParquetNumber(_owner(shard, self.shards, self.parquet_files))

    def embedding_of_shard(self, shard: ShardNumber) -> EmbeddingNumber:
        """The embedding file that holds a shard's samples."""
        return EmbeddingNumber(_owner(shard, self.shards, self.embedding_files))

    def row_group_of_shard(self, shard: ShardNumber) -> int:
        """The row group of the shard inside its parquet file."""
        return shard - self.shards_of_parquet(self.parquet_of_shard(shard)).start

    def rows_of_shard(self, position: int, shards: int, rows: int) -> range:
        """Return the rows of the shard at `position` of `shards` in a parquet file of `rows` rows."""
        return _slice(position, rows, shards)

    def check_rows(self, parquet: ParquetNumber, rows: int) -> None:
        """Refuse a parquet file whose shards would hold more than `rows_per_shard` rows. Raises LayoutError."""
        shards = len(self.shards_of_parquet(parquet))
        largest = -(-rows // shards)
        if largest > self.rows_per_shard:
            raise LayoutError(
                f"parquet file {self.parquet_key(parquet)} has {rows} rows for {shards} shards: {largest} rows per "
                f"shard, and rows_per_shard is {self.rows_per_shard}. Declare more shards in the dataset, or raise "
                f"rows_per_shard (at most {SAMPLES_PER_SHARD_KEY}). Nothing was written."
            )

    @cached_property
    def _range_starts(self) -> list[int]:
        """The first uid, as an integer, of the range of each parquet file: ceil(first_shard / shards * 2**128)."""
        space = 1 << HASH_BITS
        firsts = [_slice(parquet, self.shards, self.parquet_files).start for parquet in range(self.parquet_files)]
        return [-(-(first * space) // self.shards) for first in firsts]

    def uid_range(self, parquet: ParquetNumber) -> tuple[int, int]:
        """[first, end) of the uids, as 128-bit integers, that parquet file `parquet` holds."""
        starts = [*self._range_starts, 1 << HASH_BITS]
        return starts[parquet], starts[parquet + 1]

    def parquet_of_uid(self, uid: str) -> ParquetNumber:
        """The parquet file that holds a uid of 32 hex digits."""
        return self.parquet_of_shard(ShardNumber(int(uid, 16) * self.shards >> HASH_BITS))

    def parquet_key(self, parquet: ParquetNumber) -> PartitionKey:
        """Partition key of a parquet file: fixed width, digits only."""
        return PartitionKey(f"{parquet:0{_width(self.parquet_files)}d}")

    def shard_key(self, shard: ShardNumber) -> PartitionKey:
        """Partition key and img2dataset name of a shard: 5 digits."""
        return PartitionKey(f"{shard:0{SHARD_DIGITS}d}")

    def embedding_key(self, embedding: EmbeddingNumber) -> PartitionKey:
        """Partition key and clip-retrieval number of an embedding file: int(log10(files)) + 1 digits."""
        return PartitionKey(f"{embedding:0{len(str(self.embedding_files))}d}")

    def sample_key(self, shard: ShardNumber, row: int) -> str:
        """img2dataset's key of a row of a shard: 9 digits."""
        return f"{shard * SAMPLES_PER_SHARD_KEY + row:0{SHARD_DIGITS + 4}d}"


def _slice(part: int, total: int, parts: int) -> range:
    if not 0 <= part < parts:
        raise LayoutError(f"Invalid file number {part}: expected 0 to {parts - 1}.")
    return range(part * total // parts, (part + 1) * total // parts)


def _owner(item: int, total: int, parts: int) -> int:
    """Return the part whose slice contains `item`: the inverse of `_slice`."""
    if not 0 <= item < total:
        raise LayoutError(f"Invalid shard number {item}: expected 0 to {total - 1}.")
    return ((item + 1) * parts - 1) // total


def _width(count: int) -> int:
    return max(2, len(str(count - 1)))
