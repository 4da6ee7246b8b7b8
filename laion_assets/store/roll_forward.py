"""Rolling a commit forward: the moves of its intent, and last the manifest.

The process that wrote the intent does this, or, after a kill, the next process that opens the partition.
"""

import hashlib

from laion_assets.errors import IntegrityError, StoreError
from laion_assets.store.intent import Intent, intent_path, read_intent, staging_folder
from laion_assets.store.manifest import Manifest, disagreement, manifest_path, read_manifest
from laion_assets.store.store import Store


def roll_forward(store: Store, asset: str, key: str) -> None:
    """Finish the moves of an intent. The caller holds the lease. Raises IntegrityError, StoreError."""
    try:
        intent = read_intent(store, asset, key)
    except ValueError:  # a power loss left only its name, so no committed file was touched
        store.delete(intent_path(asset, key))
        return
    if intent is not None:
        carry_out(store, intent)


def carry_out(store: Store, intent: Intent) -> None:
    """Make the moves of an intent that is stored. The caller holds the lease. Raises IntegrityError, StoreError."""
    manifest = intent.manifest
    asset, key = manifest.asset, manifest.key
    folder = f"{staging_folder(asset, key)}/{intent.transaction}"
    staged_names = set(store.names(folder))
    targets = {staged_name(entry.path): entry.path for entry in manifest.files}
    sources = {path: f"{folder}/{name}" for name, path in targets.items() if name in staged_names}
    problem = _find_obstacle(store, manifest, sources)
    if problem is None:
        store.check_targets(sources)
        store.delete(manifest_path(asset, key))
        for path in intent.superseded:
            store.delete_file(path)
        store.move_all({source: path for path, source in sources.items()})
        store.sync({entry.path.rpartition("/")[0] for entry in manifest.files})
        problem = disagreement(store, manifest)
    if problem is None:
        store.write_bytes(manifest_path(asset, key), manifest.to_json())
    store.delete(intent_path(asset, key))
    store.delete(folder)
    if problem is not None:
        raise IntegrityError(f"An interrupted commit of {asset} {key} cannot be finished: {problem}. Run it again.")


def _find_obstacle(store: Store, manifest: Manifest, sources: dict[str, str]) -> str | None:
    """Return why an intent cannot be finished, None if it can. Runs before a committed file is touched.

    `sources` are the staged files by their target path. The other files are in place already.
    """
    locations = {entry.path: sources.get(entry.path, entry.path) for entry in manifest.files}
    sizes = store.sizes(locations.values())
    for entry in manifest.files:
        location = locations[entry.path]
        if sizes[location] is None:
            return store.problem_at(location)
        if sizes[location] != entry.size:
            return f"{store.address(location)} has {sizes[location]} bytes, but its manifest lists {entry.size}"
    return None


def staged_name(path: str) -> str:
    """Return a unique file name for a path: short enough for any file system, with the ending of the path."""
    return f"{hashlib.sha256(path.encode()).hexdigest()[:24]}-{path.rpartition('/')[2][-50:]}"


def read_valid_manifest(store: Store, asset: str, key: str) -> Manifest | None:
    """Read the manifest. Returns None if it is missing or damaged. Raises StoreError if it is not a file."""
    try:
        return read_manifest(store, asset, key)
    except StoreError:
        raise
    except IntegrityError:
        return None
