"""Batches of pixels, decoded ahead of the encoder in order, in a few reused host buffers.

The buffers bound the memory: BUFFERS of at most BUFFER_BYTES each. For a GPU they are pinned and shared with the
processes that decode, so that a copy to the device runs beside the encoder.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from laion_assets.stages.clip_embeddings.pipeline.decoder_pool import DecoderPool, SharedPixels
from laion_assets.stages.clip_embeddings.pipeline.decoding import (
    DecodedRows,
    ImageBytes,
    decode_rows,
    image_shape,
    transform_rows,
)

if TYPE_CHECKING:
    import torch

BUFFERS = 3
"""Batches decoded, being decoded or being copied at once."""
BUFFER_BYTES = 128 << 20
"""Most pixels of a batch; batches of larger images have fewer rows."""
_ROWS_PER_TASK = 32


@dataclass(frozen=True)
class BatchRequest:
    """The images of one batch, and where its first row lies in its group.

    `shape` is (height, width) of most of them, `most` the most rows of a batch of that shape.
    """

    group: Any
    start: int
    images: list[ImageBytes]
    shape: tuple[int, int] | None
    most: int


@dataclass
class PixelBatch:
    """A decoded batch: `pixels` (n, h, w, 3) uint8 on the host, None if all rows are odd; see `DecodedRows`."""

    request: BatchRequest
    pixels: "torch.Tensor | None"
    odd: "list[tuple[int, torch.Tensor]]" = field(default_factory=list)
    undecodable: list[int] = field(default_factory=list)
    buffer: Any = None


def cut_batches(group: Any, images: list[ImageBytes], batch_size: int) -> Iterator[BatchRequest]:
    """The batches of a group of images: of equal sizes, give or take one, at most `batch_size` and BUFFER_BYTES.

    Where they are cut depends on the group alone, so that a rerun gives the same bytes.
    """
    shape = image_shape(images)
    most = batch_size if shape is None else max(1, min(batch_size, BUFFER_BYTES // (shape[0] * shape[1] * 3)))
    count = -(-len(images) // most)
    for number in range(count):
        start, end = number * len(images) // count, (number + 1) * len(images) // count
        yield BatchRequest(group, start, images[start:end], shape, most)


class PixelBatches:
    """Decodes batches in `threads` threads, or in processes; a context manager that ends the threads."""

    def __init__(
        self,
        transform: "Callable[[Any], torch.Tensor]",
        whole: bool,
        threads: int,
        cores: int,
        pool: DecoderPool | None = None,
    ) -> None:
        """`whole`: images of a batch's common size are decoded into its pixels; else each goes through `transform`.

        `cores` are the threads that torch works in outside of the decoders. With a `pool`, its processes decode, and
        the threads wait for them.
        """
        self._transform = transform
        self._whole = whole
        self._processes = pool
        self._free: deque[Any] = deque([None] * BUFFERS)
        self._returned: deque[tuple[Any, Callable[[], None]]] = deque()
        self._shared: list[SharedPixels] = []
        self._pool = _decoders(threads, cores)
        self.waited_s = 0.0
        self.waited_for_device_s = 0.0

    def decode(self, requests: Iterable[BatchRequest]) -> Iterator[PixelBatch]:
        """A batch for each request, in order. Give its buffer back by `release` before asking for many more."""
        ahead: deque[tuple[PixelBatch, list[Future[DecodedRows]]]] = deque()
        requests = iter(requests)
        request = next(requests, None)
        while ahead or request is not None:
            while request is not None and (buffer := self._take(wait=not ahead)) is not _NONE_FREE:
                ahead.append(self._start(request, buffer))
                request = next(requests, None)
            batch, futures = ahead.popleft()
            started = time.perf_counter()
            for future in futures:
                rows = future.result()
                batch.odd += rows.odd
                batch.undecodable += rows.undecodable
            self.waited_s += time.perf_counter() - started
            yield batch

    def release(self, batch: PixelBatch, wait: Callable[[], None]) -> None:
        """The batch's pixels are free once `wait` returns, which is called when another batch needs them."""
        self._returned.append((batch.buffer, wait))

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)
        if self._processes is not None:
            for shared in self._shared:
                self._processes.give_back(shared)
            self._shared = []

    def __enter__(self) -> "PixelBatches":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _take(self, wait: bool) -> Any:
        if self._free:
            return self._free.popleft()
        if self._returned and (wait or len(self._returned) > 1):
            buffer, copied = self._returned.popleft()
            started = time.perf_counter()
            copied()
            self.waited_for_device_s += time.perf_counter() - started
            return buffer
        return _NONE_FREE

    def _start(self, request: BatchRequest, buffer: Any) -> tuple[PixelBatch, list["Future[DecodedRows]"]]:
        rows = len(request.images)
        batch = PixelBatch(request, None, buffer=buffer)
        if self._whole and request.shape is not None:
            size = rows * request.shape[0] * request.shape[1] * 3
            if buffer is None or len(_memory(buffer)) < size:
                batch.buffer = buffer = self._new_buffer(request.most * request.shape[0] * request.shape[1] * 3)
            batch.pixels = _memory(buffer)[:size].view(rows, *request.shape, 3)
        parts = [range(start, min(start + _ROWS_PER_TASK, rows)) for start in range(0, rows, _ROWS_PER_TASK)]
        return batch, [self._pool.submit(self._decode_rows, batch, part) for part in parts]

    def _decode_rows(self, batch: PixelBatch, rows: range) -> DecodedRows:
        images, pixels = batch.request.images, batch.pixels
        if self._processes is None or pixels is None:
            return decode_rows(images, rows, None if pixels is None else pixels.numpy(), self._transform)
        odd, undecodable = self._processes.decode(images, rows, batch.buffer, tuple(pixels.shape)).result()
        return transform_rows(images, odd, undecodable, self._transform)

    def _new_buffer(self, size: int) -> Any:
        import torch

        if self._processes is None:
            return torch.zeros(size, dtype=torch.uint8)
        self._shared.append(self._processes.buffer(size))
        return self._shared[-1]


def _memory(buffer: Any) -> "torch.Tensor":
    memory: torch.Tensor = buffer.tensor if isinstance(buffer, SharedPixels) else buffer
    return memory


_NONE_FREE = object()


def decode_threads(asked: int) -> int:
    """The number of threads to decode with: as many as were asked for, or one a core for 0."""
    return asked or len(os.sched_getaffinity(0))


def _decoders(threads: int, cores: int) -> ThreadPoolExecutor:
    """Started threads in which torch works alone: else each would start as many threads as there are cores.

    The number of torch's threads is partly the calling thread's and partly the process's. So all set theirs before this
    thread sets the process's back, and the encoder's sums are made in the same order in every run.
    """
    import torch

    started = threading.Barrier(threads)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode", initializer=torch.set_num_threads, initargs=(1,))
    for waiting in [pool.submit(started.wait) for _ in range(threads)]:
        waiting.result()
    torch.set_num_threads(cores)
    return pool
