"""What a shard task hands back: light values that cross process borders."""

from dataclasses import dataclass

from laion_assets.dataset.layout import ShardNumber
from laion_assets.store.manifest import Manifest


@dataclass(frozen=True)
class ShardOutcome:
    """One published shard: its manifest, whether it was complete before, and the seconds that this run spent on it.

    Of a retry also how many of its rows were fetched again, and how many of these have a picture now.
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
        """The shard's rows: successes and the sum of `reasons`."""
        return self.manifest.counts.rows_in

    @property
    def successes(self) -> int:
        """Rows with a picture in the tar."""
        return self.manifest.counts.rows_out

    @property
    def reasons(self) -> dict[str, int]:
        """Rows without a picture, by the value of their Reason."""
        return self.manifest.counts.reasons


@dataclass(frozen=True)
class ShardFailure:
    """One shard that was not published, and why. `kind` is the error's class name, or `WorkerDied`."""

    shard: ShardNumber
    key: str
    kind: str
    message: str
    traceback: str = ""

    def __str__(self) -> str:
        return f"shard {self.key}: {self.message}"
