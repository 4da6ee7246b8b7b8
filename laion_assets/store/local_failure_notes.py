"""A note beside the manifests for each shard that is missing because of a local failure; status and checks show it.

`local_failures/image_shards/KEY.json` holds `message` and `at`. It is removed when the shard is committed.
"""

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime

from laion_assets.errors import LocalFailureError
from laion_assets.store.store import Store


def note_path(asset: str, key: str) -> str:
    """Where the note of a partition is in the store."""
    return f"local_failures/{asset}/{key}.json"


@contextlib.contextmanager
def local_failures_noted(store: Store, asset: str, key: str) -> Iterator[None]:
    """Note a LocalFailureError of the body and raise it with the shard's name; else remove an older note."""
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
    """Keys of the partitions that have a note."""
    names = store.names(f"local_failures/{asset}")
    return frozenset(name.removesuffix(".json") for name in names if name.endswith(".json"))


def read_note(store: Store, asset: str, key: str) -> str:
    """The message of a note, empty where it is gone or damaged."""
    try:
        return str(json.loads(store.read_bytes(note_path(asset, key)))["message"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return ""
