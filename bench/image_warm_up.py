"""The task that warms up a worker. A separate module, because workers do not import the program that starts them."""

from dataclasses import dataclass

from laion_assets.stages.image_shards.settings import ImageSettings
from laion_assets.stages.image_shards.shard.outcome import ShardOutcome


@dataclass(frozen=True)
class WarmUp:
    """A task that lets a worker import libraries and start its decoder before the measurement, once per worker.

    img2dataset's imports, including OpenCV, also come before its shards' start times.
    """

    number: int
    images: ImageSettings
    key: str = "warm-up"

    def run(self, send: object) -> ShardOutcome:
        """Import the libraries, start the decoder and build nothing."""
        import pyarrow.parquet  # noqa: F401

        import laion_assets.stages.image_shards.shard.writer  # noqa: F401

        if self.images.engine == "img2dataset":
            from laion_assets.stages.image_shards.img2dataset.bounded_resizer import BoundedResizer

            BoundedResizer(self.images)
            return ShardOutcome(self.number, None, True, 0.0)  # type: ignore[arg-type]
        from laion_assets.stages.image_shards.decoding.decoder_process import Decoder

        with Decoder(self.images):
            return ShardOutcome(self.number, None, True, 0.0)  # type: ignore[arg-type]
