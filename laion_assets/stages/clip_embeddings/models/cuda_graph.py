"""Recording an encoder as a CUDA graph: one launch in the place of hundreds (CUDA programming guide, CUDA Graphs)."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_WARM_UPS = 3
"""Runs before the recording, in which libraries choose their kernels and take their memory."""


def record_graph(
    encode: Callable[[Any], Any], shape: tuple[int, ...], device: str
) -> "Callable[[torch.Tensor], torch.Tensor]":
    """A function that encodes at most `shape[0]` rows of uint8 `shape[1:]` to float32 vectors by replaying a graph.

    Rows that are not given are encoded too, as whatever lay there, and left out. Raises torch.cuda.OutOfMemoryError.
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
        # Only this thread's calls are recorded: others pin memory meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            vectors = encode(inputs).float()

    def replay(rows: "torch.Tensor") -> "torch.Tensor":
        with torch.inference_mode():
            inputs[: len(rows)].copy_(rows, non_blocking=True)
            graph.replay()
            return vectors[: len(rows)].clone()

    return replay
