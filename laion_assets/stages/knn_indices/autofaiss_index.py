"""Build an index with autofaiss, and raise an error if it fails.

autofaiss returns `(None, None)` if the memory does not suffice, and only logs the reason. It reads every npy file below
its input folder. It chooses search parameters by wall-clock time. Here its log becomes the error message, it gets a
folder with exactly the committed files, and a small index is searched exhaustively.
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
"""Maximum of vectors x width for which a query searches the whole index. That takes some milliseconds of one core; the
recall is 1, and nprobe does not depend on a clock."""
_BUDGET = "Increase index.current_memory_available or index.max_index_memory_usage, as the message suggests."


def build_with_autofaiss(vectors: Vectors, settings: IndexSettings, index: Path, infos: Path) -> dict[str, Any]:
    """Build a memory-mappable index over the vectors at `index`; return autofaiss's measurements.

    There must be at least one vector. Below 1,000 vectors, autofaiss keeps them in one uncompressed list. Raises
    IndexBuildError with autofaiss's reason.
    """
    from autofaiss import build_index
    from autofaiss.external.optimize import get_optimal_index_keys_v2

    rows, width = len(vectors), vectors.arrays[0].shape[1]
    if rows == 0:
        raise IndexBuildError("There are no vectors to index: every shard is empty, or none of its images decodes.")
    with _link_files(vectors) as folder, _capture_errors() as errors:
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
                    index_param=_exhaustive_parameters(keys[0], rows, width),
                    max_index_memory_usage=settings.max_index_memory_usage,
                    current_memory_available=settings.current_memory_available,
                    metric_type=settings.metric_type,
                    nb_cores=settings.cores or os.cpu_count(),
                    should_be_memory_mappable=True,
                    verbose=logging.ERROR,
                )
        except Exception as error:
            raise IndexBuildError(
                f"autofaiss failed for {rows:,} vectors of width {width} with {_describe_limits(settings)}: "
                f"{type(error).__name__}: {error}. {_BUDGET}"
            ) from error
    if built is None or measured is None:
        reason = " ".join(errors) or f"no type of index for {rows:,} vectors of width {width} is small enough."
        raise IndexBuildError(f"autofaiss returned no index with {_describe_limits(settings)}: {reason} {_BUDGET}")
    return {name: value.item() if hasattr(value, "item") else value for name, value in measured.items()}


def _describe_limits(settings: IndexSettings) -> str:
    return (
        f"index.max_index_memory_usage {settings.max_index_memory_usage} and index.current_memory_available "
        f"{settings.current_memory_available}"
    )


def _exhaustive_parameters(index_key: str, rows: int, width: int) -> str | None:
    """Return search parameters that visit every list of a small uncompressed index; None lets autofaiss tune."""
    lists = re.fullmatch(r"IVF(\d+),Flat", index_key)
    return f"nprobe={lists[1]}" if lists and rows * width <= EXACT_PRODUCTS else None


@contextlib.contextmanager
def _link_files(vectors: Vectors) -> Iterator[str]:
    """Create a temporary folder of links to exactly these files, in order, without the files that have no rows."""
    with tempfile.TemporaryDirectory(prefix="laion-assets-index-") as folder:
        for number, (path, array) in enumerate(zip(vectors.paths, vectors.arrays, strict=True)):
            if len(array):
                (Path(folder) / f"{number:05d}.npy").symlink_to(path.absolute())
        yield folder


@contextlib.contextmanager
def _capture_errors() -> Iterator[list[str]]:
    """Collect the errors that autofaiss logs; its other output is dropped."""
    errors: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            errors.append(record.getMessage().strip())

    logger, collector = logging.getLogger("autofaiss"), Collector(logging.ERROR)
    propagate, level = logger.propagate, logger.level
    logger.addHandler(collector)
    logger.propagate = False
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield errors
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagate
        logger.setLevel(level)
