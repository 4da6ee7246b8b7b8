"""Notes about partitions that were not committed because of a local failure. Status and checks show them.

A note is the file `local_failures/image_shards/KEY.json` with `message` and `at`. It is deleted when the
shard is committed.
"""

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime

from laion_assets.errors import LocalFailureError
from laion_assets.store.store import Store


def note_path(asset: str, key: str) -> str:
    """Return the path of a partition's note in the store."""
    return f"local_failures/{asset}/{key}.json"


@contextlib.contextmanager
def note_local_failures(store: Store, asset: str, key: str) -> Iterator[None]:
    """Write a note if the body raises LocalFailureError, and raise that with the shard's name; else delete the note."""
    path = note_path(asset, key)
    try:
        yield
    except LocalFailureError as error:
        message = f"Shard {key} was not committed because of a local failure: {error}"
        note = {"message": message, "at": datetime.now(UTC).isoformat(timespec="seconds")}
        store.write_bytes(path, json.dumps(note).encode(), durable=False)
        raise LocalFailureError(message) from error
    if store.size(path) is not None:
        store.delete(path)


def noted_keys(store: Store, asset: str) -> frozenset[str]:
    """Return the keys of the partitions that have a note."""
    names = store.names(f"local_failures/{asset}")
    return frozenset(name.removesuffix(".json") for name in names if name.endswith(".json"))


def read_note(store: Store, asset: str, key: str) -> str:
    """Return the message of a note, or an empty string if the note is missing or damaged."""
    try:
        return str(json.loads(store.read_bytes(note_path(asset, key)))["message"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return ""
