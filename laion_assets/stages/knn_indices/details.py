"""The details in the manifest of the indices, checked when they are read: a search relies on them."""

import hashlib
from dataclasses import dataclass
from typing import IO, Any

from laion_assets.errors import IntegrityError, ModelError
from laion_assets.stages.knn_indices.handle import KNN_INDICES
from laion_assets.store.manifest import Manifest

MAX_WIDTH = 1 << 16
INPUTS = "inputs"
"""The detail that lists, for each embedding file, the sha256 of `img_emb`, `text_emb` and `metadata`, and of the
metadata's parquet footer (`footer`)."""
_TAIL_BYTES = 8
_MAX_FOOTER_BYTES = 1 << 28


@dataclass(frozen=True)
class IndexDetails:
    """Model, width and metric of the indices; rows of each embedding file; paths of the metadata files in their order.

    `footers` are the sha256 of the metadata files' parquet footers; empty in indices of an earlier version.
    """

    model: str
    width: int
    metric: str
    rows: tuple[int, ...]
    metadata: tuple[str, ...]
    footers: tuple[str, ...]

    def require_model(self, dataset: str, identity: str) -> None:
        """Raise ModelError unless the indices were built with the dataset's model, whose identity is given."""
        if identity != self.model:
            raise ModelError(
                f"The indices of {dataset} were built with the model {self.model}, but the dataset's model is "
                f"{identity}. Vectors of different models cannot be compared. Set the model back, or materialize the "
                "embeddings and the indices again."
            )

    @classmethod
    def of(cls, manifest: Manifest) -> "IndexDetails":
        """Read the details of a manifest. Raises IntegrityError if `build_indices` does not write such details."""
        found = manifest.details
        metadata = tuple(sorted(entry.path for entry in manifest.files if entry.path.endswith(".parquet")))
        model, width, metric, rows = (found.get(name) for name in ("model", "width", "metric", "rows"))
        problem = ""
        if not isinstance(model, str):
            problem = "model is not text"
        elif type(width) is not int or not 1 <= width <= MAX_WIDTH:
            problem = f"width is not a number from 1 to {MAX_WIDTH}"
        elif metric not in ("ip", "l2"):
            problem = "metric is neither ip nor l2"
        elif not isinstance(rows, list) or not all(type(count) is int and count >= 0 for count in rows):
            problem = "rows is not a list of row counts"
        elif len(rows) != len(metadata) or sum(rows) != manifest.counts.rows_out:
            problem = (
                f"rows has {len(rows)} files with {sum(rows)} rows, and there are {len(metadata)} metadata files and "
                f"{manifest.counts.rows_out} vectors"
            )
        inputs = found.get(INPUTS, [])
        if not problem and (not isinstance(inputs, list) or not all(_is_input(each) for each in inputs)):
            problem = f"{INPUTS} is not a list of digests"
        elif not problem and inputs and len(inputs) != len(metadata):
            problem = f"{INPUTS} has {len(inputs)} files and there are {len(metadata)} metadata files"
        if problem:
            raise IntegrityError(
                f"The manifest of {KNN_INDICES} is damaged ({problem}). Materialize {KNN_INDICES} again."
            )
        assert isinstance(model, str)
        assert isinstance(width, int)
        assert isinstance(rows, list)
        return cls(model, width, str(metric), tuple(rows), metadata, tuple(each["footer"] for each in inputs))


def footer_sha256(file: IO[bytes], where: str) -> str:
    """Return the sha256 of a parquet file's footer: its schema, and offset, size and statistics of each column chunk.

    Raises IntegrityError naming `where` if the file is not a parquet file.
    """
    size = file.seek(0, 2)
    file.seek(max(size - _TAIL_BYTES, 0))
    tail = file.read(_TAIL_BYTES)
    length = int.from_bytes(tail[:4], "little") + _TAIL_BYTES
    if len(tail) < _TAIL_BYTES or tail[4:] != b"PAR1" or length > min(size, _MAX_FOOTER_BYTES):
        raise IntegrityError(f"{where} is not a parquet file: its footer is damaged.")
    file.seek(size - length)
    return hashlib.sha256(file.read(length)).hexdigest()


def _is_input(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("footer"), str)
