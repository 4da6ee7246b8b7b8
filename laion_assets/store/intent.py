"""The intent of a commit: the planned moves, written before the first file is moved.

    staging/ASSET/KEY/intent.json    {"transaction": NAME, "manifest": {...}, "superseded": [PATH, ...]}

Any process that finds an intent finishes it. So it is accepted only if this program could have written it: the
transaction is a folder name in the staging folder of the partition, the manifest belongs to the partition, and every
path is in a folder of its asset.
"""

import json
from dataclasses import dataclass

from laion_assets.errors import IntegrityError, StoreError
from laion_assets.store.manifest import Manifest, manifest_limit
from laion_assets.store.paths import checked_path, folders_of_asset
from laion_assets.store.store import Store
from laion_assets.store.stored_json import parse_object

INTENT = "intent.json"


@dataclass(frozen=True)
class Intent:
    """A commit whose files are all staged in `staging/ASSET/KEY/TRANSACTION`, and its new manifest.

    `superseded` are files of the previous manifest that the new manifest does not name. They are deleted.
    """

    transaction: str
    manifest: Manifest
    superseded: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """Serialize the intent for storage."""
        # Not parsed again: the manifest of raw_csv may have 100 MB.
        others = json.dumps({"transaction": self.transaction, "superseded": self.superseded}).encode()
        return b'%s, "manifest": %s}' % (
            others[:-1],
            self.manifest.to_json(),
        )


def staging_folder(asset: str, key: str) -> str:
    """Return the folder of the transactions and the intent of a partition."""
    return f"staging/{asset}/{key}"


def intent_path(asset: str, key: str) -> str:
    """Return the path of the intent of a partition."""
    return f"{staging_folder(asset, key)}/{INTENT}"


def read_intent(store: Store, asset: str, key: str) -> Intent | None:
    """Read the intent of a partition. Returns None if there is none.

    Raises ValueError for an intent truncated by a power loss. No committed file was touched in that case, because the
    intent is durable before the first move. Raises StoreError naming a file that this program did not write.
    """
    path = intent_path(asset, key)
    try:
        content = store.read_bytes(path, 2 * manifest_limit(asset))
    except FileNotFoundError:
        return None
    try:
        return _parse_intent(parse_object(content), asset, key)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except (ValueError, IntegrityError) as error:
        raise StoreError(
            f"{store.address(path)} is not an intent that this program wrote ({error}). It was not carried out, "
            f"and nothing was changed. Remove {store.address(staging_folder(asset, key))}, then materialize {asset} "
            f"{key} again."
        ) from error


def _parse_intent(fields: dict[str, object], asset: str, key: str) -> Intent:
    transaction, stored = fields.pop("transaction", None), fields.pop("manifest", None)
    superseded = fields.pop("superseded", [])
    if fields or not isinstance(stored, dict) or not isinstance(superseded, list):
        raise ValueError("its fields are not transaction, manifest and superseded")
    if not isinstance(transaction, str) or "/" in checked_path(transaction) or transaction == INTENT:
        raise ValueError("its transaction is not a folder name")
    manifest = Manifest.from_fields(stored)
    if (manifest.asset, manifest.key) != (asset, key):
        raise ValueError(f"it belongs to {manifest.asset} {manifest.key}")
    folders = folders_of_asset(asset)
    if not all(isinstance(path, str) and checked_path(path).startswith(folders) for path in superseded):
        raise ValueError("it supersedes a path that is not a file of its asset")
    if set(superseded) & {entry.path for entry in manifest.files}:
        raise ValueError("it supersedes files of its own manifest")
    return Intent(transaction, manifest, tuple(superseded))
