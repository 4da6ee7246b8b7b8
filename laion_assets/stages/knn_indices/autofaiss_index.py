"""autofaiss, called so that it cannot fail in silence.

It returns `(None, None)` where memory does not suffice and only logs why; it reads every npy below the folder it is
given; it picks search parameters by wall clock. Here its log becomes the error, it is shown exactly the published
files, and an index small enough to be searched whole is.
"""

import contextlib
import io
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from laion_assets.errors import IndexBuildError
from laion_assets.stages.knn_indices.settings import IndexSettings
from laion_assets.stages.knn_indices.vectors import Vectors

EXACT_PRODUCTS = 10_000_000
"""Vectors times width up to which a query may visit the whole index: some milliseconds of one core, so that the
choice of nprobe needs no clock and the recall is 1."""
_BUDGET = "Raise index.current_memory_available or index.max_index_memory_usage, by what the message says."


def build_with_autofaiss(vectors: Vectors, settings: IndexSettings, index: Path, infos: Path) -> dict[str, Any]:
    """Build a memory-mappable index over the vectors at `index`; gives autofaiss's measured infos.

    Any number of vectors but none works: below 1,000 autofaiss keeps them in one list, uncompressed. Raises
    IndexBuildError repeating autofaiss's reason.
    """
    from autofaiss import build_index
    from autofaiss.external.optimize import get_optimal_index_keys_v2

    rows, width = len(vectors), vectors.arrays[0].shape[1]
    if rows == 0:
        raise IndexBuildError("there are no vectors to index: every shard is empty or nothing in them decodes.")
    with _folder_of(vectors) as folder, _heard() as said:
        try:
            keys = get_optimal_index_keys_v2(
                rows, width, settings.max_index_memory_usage, should_be_memory_mappable=True
            )
            built, measured = (None, None)
            if keys:
                built, measured = build_index(
                    embeddings=folder,
                    index_path=str(index),
                    index_infos_path=str(infos),
                    index_key=keys[0],
                    index_param=_exhaustive(keys[0], rows, width),
                    max_index_memory_usage=settings.max_index_memory_usage,
                    current_memory_available=settings.current_memory_available,
                    metric_type=settings.metric_type,
                    nb_cores=settings.cores or os.cpu_count(),
                    should_be_memory_mappable=True,
                    verbose=logging.ERROR,
                )
        except Exception as error:
            raise IndexBuildError(
                f"autofaiss failed over {rows:,} vectors of width {width} within {_within(settings)}: "
                f"{type(error).__name__}: {error}. {_BUDGET}"
            ) from error
    if built is None or measured is None:
        reason = " ".join(said) or f"no kind of index over {rows:,} vectors of width {width} is that small."
        raise IndexBuildError(f"autofaiss gave no index within {_within(settings)}: {reason} {_BUDGET}")
    return {name: value.item() if hasattr(value, "item") else value for name, value in measured.items()}


def _within(settings: IndexSettings) -> str:
    return (
        f"index.max_index_memory_usage {settings.max_index_memory_usage} and index.current_memory_available "
        f"{settings.current_memory_available}"
    )


def _exhaustive(index_key: str, rows: int, width: int) -> str | None:
    """Search parameters that visit every list of a small uncompressed index; None lets autofaiss tune."""
    lists = re.fullmatch(r"IVF(\d+),Flat", index_key)
    return f"nprobe={lists[1]}" if lists and rows * width <= EXACT_PRODUCTS else None


@contextlib.contextmanager
def _folder_of(vectors: Vectors) -> Iterator[str]:
    """A folder of links to exactly these files, in their order; files without rows are left out."""
    with tempfile.TemporaryDirectory(prefix="laion-assets-index-") as folder:
        for number, (path, array) in enumerate(zip(vectors.paths, vectors.arrays, strict=True)):
            if len(array):
                (Path(folder) / f"{number:05d}.npy").symlink_to(path.absolute())
        yield folder


@contextlib.contextmanager
def _heard() -> Iterator[list[str]]:
    """The errors that autofaiss logs; its progress bars and further lines are not shown."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage().strip())

    logger, listener = logging.getLogger("autofaiss"), Listener(logging.ERROR)
    propagate, level = logger.propagate, logger.level
    logger.addHandler(listener)
    logger.propagate = False
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield said
    finally:
        logger.removeHandler(listener)
        logger.propagate = propagate
        logger.setLevel(level)
