"""The groups of an embedding file as they pass through the pipeline, in order."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from laion_assets.models.clip_model import ClipModel
from laion_assets.stages.clip_embeddings.pipeline.decoding import ImageBytes, OpenTar
from laion_assets.stages.clip_embeddings.pipeline.group_encoder import DeviceSeconds, GroupEncoder
from laion_assets.stages.clip_embeddings.pipeline.groups import GroupVectors
from laion_assets.stages.clip_embeddings.pipeline.pixel_batches import BatchRequest, PixelBatch, split_batches
from laion_assets.stages.clip_embeddings.pipeline.shard_preparation import PreparedShard

if TYPE_CHECKING:
    import numpy as np


@dataclass
class ShardGroup:
    """A group: its shards once they are prepared, and `result` once all its batches are encoded."""

    digest: str
    known: GroupVectors | None
    shards: list[PreparedShard] = field(default_factory=list)
    batches_left: int = 0
    result: Callable[[], GroupVectors] | None = None
    _encoder: GroupEncoder | None = None
    _tars: list[OpenTar] = field(default_factory=list)

    @property
    def keys(self) -> list[str]:
        """The sample keys, in order."""
        return [key for shard in self.shards for key in shard.keys]

    def requests(self, model: ClipModel, batch_size: int) -> list[BatchRequest]:
        """Return the batches to decode. A group that is known or empty has none; this sets its `result`."""
        rows = sum(len(shard.keys) for shard in self.shards)
        known = self.known
        if known is not None and len(known.kept) == rows:
            self.result = lambda: known
            return []
        if rows == 0:
            self.result = lambda: _empty(model.width)
            return []
        images = [image for shard in self.shards for image in self._images(shard)]
        requests = list(split_batches(self, images, batch_size))
        self.batches_left = len(requests)
        return requests

    def add(self, batch: PixelBatch, model: ClipModel, seconds: DeviceSeconds, batch_size: int) -> Callable[[], None]:
        """Encode one batch; see `GroupEncoder.add_images`."""
        if self._encoder is None:
            self._encoder = GroupEncoder(model, len(self.keys), seconds)
            self._encoder.add_captions(_tokens(self.shards), batch_size)
        copied = self._encoder.add_images(batch)
        self.batches_left -= 1
        if self.batches_left == 0:
            self.result = self._encoder.finish()
            self._encoder = None
        return copied

    def close(self) -> None:
        """Close the tars and remove those that are copies."""
        for tar in self._tars:
            tar.mapped.close()
        self._tars = []
        for shard in self.shards:
            if shard.is_copy and shard.path is not None:
                shard.path.unlink(missing_ok=True)

    def _images(self, shard: PreparedShard) -> list[ImageBytes]:
        if not shard.images:
            return []
        assert shard.path is not None
        tar = OpenTar.open(shard.path, shard.identity)
        self._tars.append(tar)
        return [ImageBytes(tar, offset, size) for offset, size in shard.images]


class PreparedGroups:
    """Forms groups from the shards that are being prepared, and keeps them in order until they are written."""

    def __init__(
        self, groups: Sequence[tuple[ShardGroup, int]], prepared: "Iterator[Future[PreparedShard]]", model: ClipModel
    ) -> None:
        """Take `groups` with their number of shards each, and `prepared`, all their shards in order."""
        self._groups = groups
        self._prepared = prepared
        self._model = model
        self._started_groups: list[ShardGroup] = []
        self.waited_s = 0.0

    def requests(self, batch_size: int) -> Iterator[BatchRequest]:
        """Yield the batches of all groups, in order."""
        for group, shards in self._groups:
            started = time.perf_counter()
            group.shards = [next(self._prepared).result() for _ in range(shards)]
            self.waited_s += time.perf_counter() - started
            self._started_groups.append(group)
            yield from group.requests(self._model, batch_size)

    def take_done(self) -> Iterator[ShardGroup]:
        """Yield the leading groups that are encoded, each once, in order."""
        while self._started_groups and self._started_groups[0].result is not None:
            yield self._started_groups.pop(0)

    def close(self) -> None:
        """Stop preparing shards and close the groups that were not taken."""
        with suppress(RuntimeError):  # the generator is running
            self._prepared.close()  # type: ignore[attr-defined]
        for group in self._started_groups:
            group.close()


def _tokens(shards: Sequence[PreparedShard]) -> "np.ndarray":
    import numpy as np

    return np.concatenate([shard.tokens for shard in shards if shard.tokens is not None and len(shard.tokens)])


def _empty(width: int) -> GroupVectors:
    import numpy as np

    vectors = np.zeros((0, width), np.float16)
    none = np.zeros(0, bool)
    return GroupVectors(vectors, vectors, np.zeros(0, np.float32), none, none)
