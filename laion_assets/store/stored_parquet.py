"""Opening a published parquet file: what is wrong with it is said with its name."""

import contextlib
from collections.abc import Iterator
from typing import IO

from laion_assets.errors import IntegrityError
from laion_assets.store.manifest import FileEntry, Manifest
from laion_assets.store.store import Store


@contextlib.contextmanager
def open_parquet(store: Store, manifest: Manifest, path: str) -> Iterator[IO[bytes]]:
    """The parquet file `path` of a partition, open for reading while the body runs.

    Raises IntegrityError naming the file if it has another size than its manifest says, and where pyarrow cannot read
    it in the body: then it was altered.
    """
    import pyarrow as pa

    entry: FileEntry = manifest.entry(path)
    where = store.address(path)
    size = store.size(path)
    if size is None:
        raise IntegrityError(f"{store.problem_at(path)}: {_again(manifest)}")
    if size != entry.size:
        raise IntegrityError(f"{where} has {size} bytes and its manifest says {entry.size}: {_again(manifest)}")
    try:
        with store.open(path) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # The disk or the network; pyarrow's own OSErrors have no number.
        said = " ".join(str(error).split())
        raise IntegrityError(f"{where} cannot be read ({said}): {_again(manifest)}") from error


def _again(manifest: Manifest) -> str:
    return f"materialize partition {manifest.key} of {manifest.asset} again."
