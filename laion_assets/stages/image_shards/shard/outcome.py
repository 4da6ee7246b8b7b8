"""The result of a shard task: a small picklable value."""

from dataclasses import dataclass

from laion_assets.dataset.layout import ShardNumber
from laion_assets.store.manifest import Manifest


@dataclass(frozen=True)
class ShardOutcome:
    """One committed shard: its manifest, whether it was skipped as complete, and the seconds that this run spent on it.

    After a retry also the number of rows that were fetched again, and how many of these have an image now.
    """

    shard: ShardNumber
    manifest: Manifest
    skipped: bool = False
    seconds: float = 0.0
    retried: int = 0
    recovered: int = 0

    @property
    def key(self) -> str:
        """The shard's partition key."""
        return self.manifest.key

    @property
    def rows(self) -> int:
        """The number of rows: successes plus the sum of `reasons`."""
        return self.manifest.counts.rows_in

    @property
    def successes(self) -> int:
        """The number of rows with an image in the tar."""
        return self.manifest.counts.rows_out

    @property
    def reasons(self) -> dict[str, int]:
        """The number of rows without an image, by the value of their Reason."""
        return self.manifest.counts.reasons
