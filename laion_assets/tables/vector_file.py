"""npy files of vectors: written by appending rows, read by memory-mapping after their header is checked.

The format is numpy's version 1.0 (NEP 1): a header of fixed length, padded by numpy so that the first axis can grow in
place, then (n, d) float16 in C order. embedding-reader, which autofaiss uses, reads files of another dtype or width as
garbage without an error, so every file is opened with `open_vectors` first.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING

from laion_assets.errors import EmbeddingError

if TYPE_CHECKING:
    import numpy as np

DTYPE = "<f2"
"""float16, little-endian, as clip-retrieval writes vectors."""
_MAGIC = b"\x93NUMPY"


class VectorWriter:
    """Appends rows to a new npy file and writes the row count into its header when it is closed.

    After an exception, the header says 0 rows although data follows; `open_vectors` refuses such a file.
    """

    def __init__(self, path: Path, width: int) -> None:
        self.path = path
        self.width = width
        self.rows = 0
        self._file: IO[bytes] = path.open("wb")
        self._write_header()

    def append(self, vectors: "np.ndarray") -> None:
        """Append (n, width) vectors of any float type. Raises EmbeddingError for another width."""
        import numpy as np

        if vectors.ndim != 2 or vectors.shape[1] != self.width:
            raise EmbeddingError(f"{self.path}: expected vectors of width {self.width}, got shape {vectors.shape}.")
        self._file.write(np.ascontiguousarray(vectors, dtype=DTYPE).tobytes())
        self.rows += len(vectors)

    def close(self) -> None:
        """Write the row count into the header and flush the file to disk."""
        self._file.seek(0)
        self._write_header()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _write_header(self) -> None:
        import numpy as np

        header = {"descr": DTYPE, "fortran_order": False, "shape": (self.rows, self.width)}
        np.lib.format.write_array_header_1_0(self._file, header)

    def __enter__(self) -> "VectorWriter":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self._file.close()


def read_shape(file: IO[bytes], name: str, width: int | None = None) -> tuple[int, int]:
    """Read (rows, width) from the header of an open npy file; the position is after the header then.

    Raises EmbeddingError naming `name` unless the file is (n, `width`) float16 in C order (any width if None).
    """
    import numpy as np

    try:
        if file.read(len(_MAGIC) + 2) != _MAGIC + b"\x01\x00":
            raise ValueError("not an npy file of version 1.0")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    except (ValueError, EOFError, SyntaxError) as error:
        raise EmbeddingError(f"{name} is not a file of vectors ({error}). {FIX}") from error
    if dtype.hasobject:
        raise EmbeddingError(f"{name} contains pickled objects, which are never loaded. {FIX}")
    if dtype != np.dtype(DTYPE):
        raise EmbeddingError(f"{name} has dtype {dtype}, expected float16. {FIX}")
    if fortran and min(shape, default=0) > 1:
        raise EmbeddingError(f"{name} is in Fortran order, expected C order. {FIX}")
    if len(shape) != 2 or shape[1] < 1:
        raise EmbeddingError(f"{name} has shape {shape}, expected (rows, width). {FIX}")
    if width is not None and shape[1] != width:
        raise EmbeddingError(f"{name} has vectors of width {shape[1]}, the other embedding files {width}. {FIX}")
    return int(shape[0]), int(shape[1])


def read_rows(file: IO[bytes], name: str, rows: "np.ndarray") -> "np.ndarray":
    """Read rows of an open npy file by their numbers, (n, width) float32: all bytes from the first to the last of them.

    Raises EmbeddingError naming `name` like `read_shape`, and for a row that the file does not have.
    """
    import numpy as np

    count, width = read_shape(file, name)
    if not len(rows):
        return np.empty((0, width), np.float32)
    first, last = int(rows.min()), int(rows.max())
    size = (last + 1 - first) * width * np.dtype(DTYPE).itemsize
    file.seek(first * width * np.dtype(DTYPE).itemsize, 1)
    content = file.read(size) if first >= 0 and last < count else b""
    if len(content) != size:
        raise EmbeddingError(f"{name} has no row {last:,}: it has {count:,} rows, or is truncated. {FIX}")
    found: np.ndarray = np.frombuffer(content, DTYPE).reshape(-1, width)[rows - first].astype(np.float32)
    return found


def open_vectors(path: Path, width: int | None = None, name: str = "") -> "np.ndarray":
    """Open the vectors of a file: (n, width) float16, memory-mapped read-only (an empty array for 0 rows).

    Raises EmbeddingError naming the file (as `name` if given) for another dtype, width or order, for pickled objects,
    or for a size that differs from its header.
    """
    import numpy as np

    name = name or str(path)
    try:
        with path.open("rb") as file:
            rows, found = read_shape(file, name, width)
            offset = file.tell()
    except FileNotFoundError as error:
        raise EmbeddingError(f"{name} is missing. {FIX}") from error
    size, expected = path.stat().st_size, offset + rows * found * np.dtype(DTYPE).itemsize
    if size != expected:
        raise EmbeddingError(f"{name} has {size:,} bytes, expected {expected:,} for {rows:,} x {found} float16. {FIX}")
    if rows == 0:
        return np.zeros((0, found), dtype=DTYPE)
    return np.memmap(path, dtype=DTYPE, mode="r", offset=offset, shape=(rows, found))


FIX = "Materialize its partition again."
"""The last sentence of an error."""
