"""Pictures decoded in threads ahead of the encoder, in order, with bounded memory."""

import io
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from laion_assets.embeddings.shard_reader import ShardSample

if TYPE_CHECKING:
    import torch

BATCHES_AHEAD = 2
"""Batches decoded or being decoded while one is encoded: 0.3 GB each for 512 pictures of 224 pixels."""


@dataclass(frozen=True)
class Batch:
    """Decoded samples: `pixels` (n, 3, h, w) float32 (None for n = 0), row i of `samples[i]`.

    `undecodable` are the samples left out, because their picture no longer decodes.
    """

    samples: list[ShardSample]
    pixels: "torch.Tensor | None"
    undecodable: list[ShardSample]


def batched(samples: Iterable[ShardSample], size: int) -> Iterator[list[ShardSample]]:
    """Runs of `size` samples, the last of fewer; where they are cut depends on nothing else."""
    iterator = iter(samples)
    while run := list(itertools.islice(iterator, size)):
        yield run


def decoded(
    runs: Iterator[list[ShardSample]], preprocess: Callable[[Any], "torch.Tensor"], threads: int
) -> Iterator[Batch]:
    """A batch for each run of samples, in order, decoded by `threads` threads; another one reads ahead.

    An exception of `runs` or of `preprocess` is raised here; a picture that does not decode is no exception.
    """
    import torch

    def quiet() -> None:
        # Intra-operation threads are the calling thread's own: each decoder would start as many as there are cores.
        torch.set_num_threads(1)

    cores = torch.get_num_threads()
    reader = ThreadPoolExecutor(1, thread_name_prefix="read-shard")
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode", initializer=quiet)
    try:
        ahead: deque[tuple[list[ShardSample], list[Future[torch.Tensor | None]]]] = deque()
        coming: Future[list[ShardSample] | None] | None = reader.submit(next, runs, None)
        while True:
            while coming is not None and len(ahead) <= BATCHES_AHEAD:
                if (run := coming.result()) is None:
                    coming = None
                    break
                coming = reader.submit(next, runs, None)
                ahead.append((run, [pool.submit(_pixels, sample.picture, preprocess) for sample in run]))
            if not ahead:
                return
            yield _batch(*ahead.popleft())
    finally:
        reader.shutdown(cancel_futures=True)
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(cores)


def picture(jpg: bytes) -> Any:
    """The RGB picture, fully decoded; None where the bytes do not decode."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(jpg)) as image:
            return image.convert("RGB")
    except MemoryError:
        raise
    except Exception:
        # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, DecompressionBombError and more.
        return None


def _pixels(jpg: bytes, preprocess: Callable[[Any], "torch.Tensor"]) -> "torch.Tensor | None":
    image = picture(jpg)
    return None if image is None else preprocess(image)


def _batch(samples: list[ShardSample], futures: "list[Future[torch.Tensor | None]]") -> Batch:
    import torch

    pixels = [future.result() for future in futures]
    futures.clear()
    kept = [sample for sample, decoded in zip(samples, pixels, strict=True) if decoded is not None]
    lost = [sample for sample, decoded in zip(samples, pixels, strict=True) if decoded is None]
    stack = [decoded for decoded in pixels if decoded is not None]
    return Batch(kept, torch.stack(stack) if stack else None, lost)
