"""Committed parquet files: errors name the damaged file."""

import contextlib
from collections.abc import Iterator
from typing import IO

from laion_assets.errors import IntegrityError
from laion_assets.store.manifest import FileEntry, Manifest
from laion_assets.store.store import Store


@contextlib.contextmanager
def open_parquet(store: Store, manifest: Manifest, path: str) -> Iterator[IO[bytes]]:
    """Open the parquet file `path` of a partition for reading.

    Raises IntegrityError naming the file if its size differs from its manifest, or if pyarrow cannot read it while the
    body runs. In both cases the file was altered.
    """
    import pyarrow as pa

    entry: FileEntry = manifest.entry(path)
    where = store.address(path)
    size = store.size(path)
    if size is None:
        raise IntegrityError(f"{store.problem_at(path)}. {_fix(manifest)}")
    if size != entry.size:
        raise IntegrityError(f"{where} has {size} bytes, but its manifest lists {entry.size}. {_fix(manifest)}")
    try:
        with store.open(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # An error of the disk or the network; pyarrow's own OSErrors have no number.
        reason = " ".join(str(error).split())
        raise IntegrityError(f"{where} cannot be read ({reason}). {_fix(manifest)}") from error


def _fix(manifest: Manifest) -> str:
    return f"Materialize partition {manifest.key} of {manifest.asset} again."
