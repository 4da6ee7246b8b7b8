"""Encode one group of samples on the model's device, without waiting for the device.

Captions are encoded first, sorted by their number of tokens, so that short ones are not padded to the length of the
longest. Image batches follow as they are decoded. Vectors stay on the device until the group is done.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from laion_assets.models.clip_model import MIN_NORM, ClipModel
from laion_assets.models.text_tower import caption_lengths, truncated_length
from laion_assets.stages.clip_embeddings.pipeline.groups import GroupVectors
from laion_assets.stages.clip_embeddings.pipeline.pixel_batches import PixelBatch

if TYPE_CHECKING:
    import numpy as np
    import torch


_CAPTIONS_PER_IMAGE = 4
"""Captions per batch, in image batches: a caption takes a fraction of an image's memory and time."""


@dataclass
class DeviceSeconds:
    """Seconds that the device spent on copying pixels to it and on encoding."""

    copy: float = 0.0
    encode: float = 0.0


class GroupEncoder:
    """Encodes the samples of one group; `finish` returns their vectors.

    On a GPU, copies run in a separate stream in parallel with the encoder. Only the result of `finish` waits for the
    device.
    """

    def __init__(self, model: ClipModel, rows: int, seconds: DeviceSeconds) -> None:
        import torch

        self._model = model
        self._seconds = seconds
        self._on_gpu = torch.device(model.device).type == "cuda"
        self._copies = _copy_stream(model) if self._on_gpu else None
        self._timed: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self._images = torch.zeros((rows, model.width), dtype=torch.float32, device=model.device)
        self._texts = torch.zeros_like(self._images)
        self._undecodable: list[int] = []

    def add_captions(self, tokens: "np.ndarray", batch_size: int) -> None:
        """Encode the captions of all rows: (rows, context) int32 tokens."""
        import numpy as np

        lengths = caption_lengths(tokens) if self._model.shortens and len(tokens) else None
        order = np.arange(len(tokens)) if lengths is None else np.argsort(lengths, kind="stable")
        ordered, rows = self._send(tokens[order]), self._send(order)
        for start in range(0, len(order), batch_size * _CAPTIONS_PER_IMAGE):
            part = slice(start, start + batch_size * _CAPTIONS_PER_IMAGE)
            length = tokens.shape[1]
            if lengths is not None:
                length = truncated_length(int(lengths[order[part][-1]]), length)
            with self._timing("encode"):
                self._texts[rows[part]] = self._model.text_vectors(ordered[part, :length])

    def add_images(self, batch: PixelBatch) -> Callable[[], None]:
        """Encode a batch of images; the returned function waits until its pixels may be overwritten."""
        import torch

        start, rows = batch.request.start, len(batch.request.images)
        self._undecodable += [start + row for row in batch.undecodable]
        copied: Callable[[], None] = _nothing
        if batch.pixels is not None and len(batch.odd) + len(batch.undecodable) < rows:
            pixels, copied = self._to_device(batch.pixels)
            with self._timing("encode"):
                encode = self._model.graphed_pixel_vectors(batch.request.most, *pixels.shape[1:3])
                self._images[start : start + rows] = encode(pixels)
        if batch.odd:
            places = torch.tensor([start + row for row, _ in batch.odd], device=self._model.device)
            with self._timing("encode"):
                self._images[places] = self._model.image_vectors(torch.stack([image for _, image in batch.odd]))
        return copied

    def finish(self) -> Callable[[], GroupVectors]:
        """Normalize the vectors and copy them to the host; the returned function waits for them."""
        import torch

        with torch.inference_mode(), self._timing("encode"):
            norms = [torch.linalg.vector_norm(vectors, dim=1, keepdim=True) for vectors in (self._images, self._texts)]
            kept = torch.isfinite(norms[0]) & torch.isfinite(norms[1])
            kept &= (norms[0] >= MIN_NORM) & (norms[1] >= MIN_NORM)
            images, texts = (
                torch.where(kept, vectors / norm, torch.zeros_like(vectors))
                for vectors, norm in zip((self._images, self._texts), norms, strict=True)
            )
            kept = kept[:, 0]
            if self._undecodable:
                kept[torch.tensor(self._undecodable, device=kept.device)] = False
            results = [self._to_host(part) for part in (images.half(), texts.half(), (images * texts).sum(1), kept)]
        done = torch.cuda.Event() if self._on_gpu else None
        if done is not None:
            done.record()

        def wait() -> GroupVectors:
            import numpy as np

            if done is not None:
                done.synchronize()
            self._count_seconds()
            undecodable = np.zeros(len(self._images), dtype=bool)
            undecodable[self._undecodable] = True
            images, texts, similarity, kept = (part.numpy() for part in results)
            return GroupVectors(images, texts, similarity, kept, undecodable)

        return wait

    def _send(self, array: "np.ndarray") -> "torch.Tensor":
        """Copy an array to the device without waiting for queued work."""
        import torch

        host = torch.from_numpy(array)
        return host.pin_memory().to(self._model.device, non_blocking=True) if self._on_gpu else host

    def _to_device(self, pixels: "torch.Tensor") -> "tuple[torch.Tensor, Callable[[], None]]":
        import torch

        if self._copies is None:
            return pixels, _nothing
        current = torch.cuda.current_stream()
        with torch.cuda.stream(self._copies), self._timing("copy"):
            moved = pixels.to(self._model.device, non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
        current.wait_stream(self._copies)
        moved.record_stream(current)
        return moved, copied.synchronize

    def _to_host(self, part: "torch.Tensor") -> "torch.Tensor":
        import torch

        if not self._on_gpu:
            return part
        host = torch.empty(part.shape, dtype=part.dtype, pin_memory=True)
        return host.copy_(part, non_blocking=True)

    def _timing(self, what: str) -> "_Timing":
        return _Timing(self, what)

    def _count_seconds(self) -> None:
        for what, begin, end in self._timed:
            self._add(what, begin.elapsed_time(end) / 1000)

    def _add(self, what: str, seconds: float) -> None:
        setattr(self._seconds, what, getattr(self._seconds, what) + seconds)


class _Timing:
    """Counts the seconds that the device spends on the calls inside: with events on a GPU, the clock on a CPU."""

    def __init__(self, encoder: GroupEncoder, what: str) -> None:
        self._encoder = encoder
        self._what = what

    def __enter__(self) -> None:
        import torch

        if self._encoder._on_gpu:
            self._begin, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            self._begin.record()
        else:
            self._started = time.perf_counter()

    def __exit__(self, *raised: object) -> None:
        if self._encoder._on_gpu:
            self._end.record()
            self._encoder._timed.append((self._what, self._begin, self._end))
        else:
            self._encoder._add(self._what, time.perf_counter() - self._started)


def _copy_stream(model: ClipModel) -> "torch.cuda.Stream":
    import torch

    return torch.cuda.Stream(device=model.device)


def _nothing() -> None:
    pass
