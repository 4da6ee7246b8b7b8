"""The task that warms a worker up; a module of its own, since workers do not import the program that starts them."""

from dataclasses import dataclass

from laion_assets.images.environment import quieten
from laion_assets.images.outcome import ShardOutcome


@dataclass(frozen=True)
class WarmUp:
    """A task that makes a worker import what shards need, before the clock starts; img2dataset's imports come before
    its shards' clocks, too."""

    shard: int
    key: str = "warm-up"

    def run(self) -> ShardOutcome:
        """Import, and make nothing."""
        quieten()
        import img2dataset.downloader  # noqa: F401

        import laion_assets.images.resizer
        import laion_assets.images.sample_writer  # noqa: F401

        return ShardOutcome(self.shard, None, True, 0.0)  # type: ignore[arg-type]
