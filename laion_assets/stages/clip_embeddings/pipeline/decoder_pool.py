"""Decode images in processes, for a GPU: threads share the interpreter lock, which the thread feeding the GPU needs.

The pixels are in shared memory (memfd_create(2)); only offsets are sent. The processes import numpy and the decoders,
not torch.
"""

import functools
import mmap
import multiprocessing
import os
import signal
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laion_assets.processes.parent_death import end_with
from laion_assets.stages.clip_embeddings.pipeline.decoding import ImageBytes, decode_into
from laion_assets.stages.clip_embeddings.pipeline.open_tar import open_tar

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class SharedPixels:
    """A buffer of `size` bytes in shared memory: its file, and a tensor over it in this process."""

    descriptor: int
    size: int
    tensor: "torch.Tensor"


@dataclass(frozen=True)
class _Rows:
    """Images of consecutive rows of a batch, all from one tar: (offset, size) of each."""

    path: Path
    identity: tuple[int, ...]
    ranges: tuple[tuple[int, int], ...]


class DecoderPool:
    """Decodes batches in `processes` processes; `close` stops them."""

    def __init__(self, processes: int) -> None:
        self._pool = ProcessPoolExecutor(
            processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=(os.getpid(),),
        )
        self._buffers: list[SharedPixels] = []
        self._idle: list[SharedPixels] = []
        for _ in range(processes):  # start all now, in parallel with other work
            self._pool.submit(_import_decoders)

    def buffer(self, size: int) -> SharedPixels:
        """Return shared memory of at least `size` bytes, pinned for copies to the GPU if there is one."""
        import torch

        for shared in self._idle:
            if shared.size >= size:
                self._idle.remove(shared)
                return shared
        descriptor = os.memfd_create("laion-assets-pixels")
        os.ftruncate(descriptor, size)
        mapped = mmap.mmap(descriptor, size)
        tensor = torch.frombuffer(mapped, dtype=torch.uint8)
        if torch.cuda.is_available():
            torch.cuda.cudart().cudaHostRegister(tensor.data_ptr(), size, 0)  # if this fails, copies are slower
        shared = SharedPixels(descriptor, size, tensor)
        self._buffers.append(shared)
        return shared

    def release(self, shared: SharedPixels) -> None:
        """Make the buffer available for the next file."""
        self._idle.append(shared)

    def decode(
        self, images: Sequence[ImageBytes], rows: range, shared: SharedPixels, shape: tuple[int, ...]
    ) -> "Future[tuple[list[int], list[int]]]":
        """Decode `images[i]` into row i of the buffer, viewed as (n, h, w, 3); see `decode_into`."""
        runs: list[_Rows] = []
        for row in rows:
            image = images[row]
            span = (image.offset, image.size)
            if runs and runs[-1].path == image.tar.path:
                runs[-1] = _Rows(runs[-1].path, runs[-1].identity, (*runs[-1].ranges, span))
            else:
                runs.append(_Rows(image.tar.path, image.tar.identity, (span,)))
        memory = f"/proc/{os.getpid()}/fd/{shared.descriptor}"
        return self._pool.submit(_decode, runs, rows.start, memory, shared.size, shape)

    def close(self) -> None:
        """Stop the processes and free the memory."""
        import torch

        self._pool.shutdown(cancel_futures=True)
        for shared in self._buffers:
            if torch.cuda.is_available():
                torch.cuda.cudart().cudaHostUnregister(shared.tensor.data_ptr())
            os.close(shared.descriptor)
        self._buffers, self._idle = [], []


def _start(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent handles it
    end_with(parent)


def _import_decoders() -> None:
    import time

    import simplejpeg  # noqa: F401

    time.sleep(0.05)  # so that each process takes one of these tasks


def _decode(
    runs: list[_Rows], first: int, memory: str, size: int, shape: tuple[int, ...]
) -> tuple[list[int], list[int]]:
    pixels = _map_pixels(memory, size)[: _product(shape)].reshape(shape)
    odd, undecodable = [], []
    for run in runs:
        view = memoryview(_tar(run.path, run.identity))
        contents = [view[offset : offset + length] for offset, length in run.ranges]
        more_odd, more_undecodable = decode_into(contents, first, pixels)
        odd += more_odd
        undecodable += more_undecodable
        first += len(contents)
    return odd, undecodable


@functools.lru_cache(maxsize=32)
def _map_pixels(memory: str, size: int) -> Any:
    import numpy as np

    with open(memory, "r+b") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), size), dtype=np.uint8)


@functools.lru_cache(maxsize=4)
def _tar(path: Path, identity: tuple[int, ...]) -> mmap.mmap:
    return open_tar(path, identity)


def _product(shape: tuple[int, ...]) -> int:
    rows, height, width, channels = shape
    return rows * height * width * channels
