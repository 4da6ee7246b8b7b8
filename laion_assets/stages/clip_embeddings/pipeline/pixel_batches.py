"""Batches of pixels, decoded in order ahead of the encoder, in a few reused host buffers.

The buffers bound the memory: BUFFERS of at most BUFFER_BYTES each. For a GPU they are pinned and shared with the
decoder processes, so that copies to the device run in parallel with the encoder.
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
"""Number of batches that are decoded, being decoded or being copied at the same time."""
BUFFER_BYTES = 128 << 20
"""Maximum bytes of pixels of a batch; batches of larger images have fewer rows."""
_ROWS_PER_TASK = 32


@dataclass(frozen=True)
class BatchRequest:
    """The images of one batch, and the position of its first row in its group.

    `shape` is (height, width) of most images, `most` the maximum number of rows of a batch of that shape.
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


def split_batches(group: Any, images: list[ImageBytes], batch_size: int) -> Iterator[BatchRequest]:
    """Split a group of images into batches of nearly equal size, of at most `batch_size` images and BUFFER_BYTES.

    The split depends only on the group, so that a rerun produces the same bytes.
    """
    shape = image_shape(images)
    most = batch_size if shape is None else max(1, min(batch_size, BUFFER_BYTES // (shape[0] * shape[1] * 3)))
    count = -(-len(images) // most)
    for number in range(count):
        start, end = number * len(images) // count, (number + 1) * len(images) // count
        yield BatchRequest(group, start, images[start:end], shape, most)


class PixelBatches:
    """Decodes batches in `threads` threads, or in processes. A context manager that stops the threads."""

    def __init__(
        self,
        transform: "Callable[[Any], torch.Tensor]",
        whole: bool,
        threads: int,
        cores: int,
        pool: DecoderPool | None = None,
    ) -> None:
        """Start the threads.

        With `whole`, images of a batch's common size are decoded into its pixels; otherwise each image goes through
        `transform`. `cores` is the number of torch's threads outside of the decoders. With a `pool`, its processes
        decode, and the threads wait for them.
        """
        self._transform = transform
        self._whole = whole
        self._processes = pool
        self._free: deque[Any] = deque([None] * BUFFERS)
        self._returned: deque[tuple[Any, Callable[[], None]]] = deque()
        self._shared: list[SharedPixels] = []
        self._pool = _start_decoders(threads, cores)
        self.waited_s = 0.0
        self.waited_for_device_s = 0.0

    def decode(self, requests: Iterable[BatchRequest]) -> Iterator[PixelBatch]:
        """Yield a batch for each request, in order. Call `release` for a batch before requesting many more."""
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
        """Free the batch's pixels once `wait` returns; `wait` is called when another batch needs them."""
        self._returned.append((batch.buffer, wait))

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown(cancel_futures=True)
        if self._processes is not None:
            for shared in self._shared:
                self._processes.release(shared)
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


def decode_threads(requested: int) -> int:
    """Return the number of threads that decode: the requested number, or one per core for 0."""
    return requested or len(os.sched_getaffinity(0))


def _start_decoders(threads: int, cores: int) -> ThreadPoolExecutor:
    """Start threads in which torch uses one thread each; otherwise each would start as many threads as there are cores.

    The number of torch's threads belongs partly to the calling thread and partly to the process. So all threads set
    theirs before this thread restores the process's number; the encoder's sums then have the same order in every run.
    """
    import torch

    started = threading.Barrier(threads)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode", initializer=torch.set_num_threads, initargs=(1,))
    for waiting in [pool.submit(started.wait) for _ in range(threads)]:
        waiting.result()
    torch.set_num_threads(cores)
    return pool
