"""The task that warms a worker up; a module of its own, since workers do not import the program that starts them."""

from dataclasses import dataclass

from laion_assets.stages.image_shards.settings import ImageSettings
from laion_assets.stages.image_shards.workers.outcome import ShardOutcome


@dataclass(frozen=True)
class WarmUp:
    """A task that makes a worker import what shards need and start its decoder, before the clock starts: once in a
    worker's life. img2dataset's imports, OpenCV among them, come before its shards' clocks, too."""

    shard: int
    images: ImageSettings
    key: str = "warm-up"

    def run(self) -> ShardOutcome:
        """Import and start, and make nothing."""
        import pyarrow.parquet  # noqa: F401

        import laion_assets.stages.image_shards.shard.writer  # noqa: F401

        if self.images.engine == "img2dataset":
            from laion_assets.stages.image_shards.img2dataset.bounded_resizer import BoundedResizer

            BoundedResizer(self.images)
            return ShardOutcome(self.shard, None, True, 0.0)  # type: ignore[arg-type]
        from laion_assets.stages.image_shards.decoding.decoder_process import Decoder

        with Decoder(self.images):
            return ShardOutcome(self.shard, None, True, 0.0)  # type: ignore[arg-type]
