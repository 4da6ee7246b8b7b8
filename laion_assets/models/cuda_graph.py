"""Record an encoder as a CUDA graph: one launch instead of hundreds (CUDA programming guide, CUDA Graphs)."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_WARM_UPS = 3
"""Runs before the recording, in which libraries choose their kernels and allocate their memory."""


def record_graph(
    encode: Callable[[Any], Any], shape: tuple[int, ...], device: str
) -> "Callable[[torch.Tensor], torch.Tensor]":
    """Return a function that encodes at most `shape[0]` rows of uint8 `shape[1:]` as float32 by replaying a graph.

    The graph always encodes `shape[0]` rows; vectors of rows that were not passed are dropped. Raises
    torch.cuda.OutOfMemoryError.
    """
    import torch

    inputs = torch.zeros(shape, dtype=torch.uint8, device=device)
    with torch.inference_mode(), torch.cuda.device(inputs.device):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                encode(inputs)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Record the calls of this thread only: other threads pin memory at the same time.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            vectors = encode(inputs).float()

    def replay(rows: "torch.Tensor") -> "torch.Tensor":
        with torch.inference_mode():
            inputs[: len(rows)].copy_(rows, non_blocking=True)
            graph.replay()
            return vectors[: len(rows)].clone()

    return replay
