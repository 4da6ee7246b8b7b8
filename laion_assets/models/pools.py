"""Worker processes that belong to a loaded model, because they must start before torch starts its threads."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol


class Pool(Protocol):
    """A pool of processes."""

    def close(self) -> None:
        """Stop the processes."""


@dataclass
class Pools:
    """The processes that prepare shards and decode images for a model; None: threads of this process do it.

    Their types are those of the embedding pipeline, which starts and uses them.
    """

    preparation: Any = None
    decoders: Any = None

    def close(self) -> None:
        """Stop all processes."""
        pools: list[Pool | None] = [self.preparation, self.decoders]
        for pool in pools:
            if pool is not None:
                pool.close()
        self.preparation = self.decoders = None


StartPools = Callable[[str, bool], Pools]
"""Starts the processes for a model of a package (`clip` or `open_clip`) that is on a GPU or not."""


def start_no_pools(package: str, on_gpu: bool) -> Pools:
    """Start no processes."""
    return Pools()
