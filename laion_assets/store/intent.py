"""The intent of a publication: what is about to be moved, written down before the first file moves.

    staging/ASSET/KEY/intent.json    {"transaction": NAME, "manifest": {...}, "superseded": [PATH, ...]}

Whoever finds one finishes it, so it is believed only as far as this program could have written it: the attempt is a
name in the partition's own staging folder, the manifest is this partition's, and every path lies in a folder of its
asset.
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
    """A publication whose files are all staged in `staging/ASSET/KEY/attempt`, and the manifest that it ends in.

    `superseded` are files of the manifest before that the new one does not have: they are deleted.
    """

    transaction: str
    manifest: Manifest
    superseded: tuple[str, ...] = ()

    def to_json(self) -> bytes:
        """The intent as it is stored."""
        others = json.dumps({"transaction": self.transaction, "superseded": self.superseded}).encode()
        return b'%s, "manifest": %s}' % (others[:-1], self.manifest.to_json())  # raw_csv's manifest may have 100 MB.


def staging_of(asset: str, key: str) -> str:
    """The folder of a partition's attempts and of its intent."""
    return f"staging/{asset}/{key}"


def intent_path(asset: str, key: str) -> str:
    """Where the intent of a partition is."""
    return f"{staging_of(asset, key)}/{INTENT}"


def read_intent(store: Store, asset: str, key: str) -> Intent | None:
    """The intent of a partition, None where there is none.

    Raises ValueError where it was torn by a loss of power: then nothing that was published was touched, for it is made
    durable before that. Raises StoreError naming the file where this program did not write it so.
    """
    path = intent_path(asset, key)
    try:
        content = store.read_bytes(path, 2 * manifest_limit(asset))
    except FileNotFoundError:
        return None
    try:
        return _intent(parse_object(content), asset, key)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise
    except (ValueError, IntegrityError) as error:
        raise StoreError(
            f"{store.address(path)} is not an intent that this program wrote ({error}): it is not carried out and "
            f"nothing changed. Remove {store.address(staging_of(asset, key))}, then materialize {asset} {key} again."
        ) from error


def _intent(fields: dict[str, object], asset: str, key: str) -> Intent:
    transaction, stored = fields.pop("transaction", None), fields.pop("manifest", None)
    superseded = fields.pop("superseded", [])
    if fields or not isinstance(stored, dict) or not isinstance(superseded, list):
        raise ValueError("it has other fields than attempt, manifest and superseded")
    if not isinstance(transaction, str) or "/" in checked_path(transaction) or transaction == INTENT:
        raise ValueError("its attempt is not a name")
    manifest = Manifest.from_fields(stored)
    if (manifest.asset, manifest.key) != (asset, key):
        raise ValueError(f"it is of {manifest.asset} {manifest.key}")
    folders = folders_of_asset(asset)
    if not all(isinstance(path, str) and checked_path(path).startswith(folders) for path in superseded):
        raise ValueError("it supersedes what is not a file of its asset")
    if set(superseded) & {entry.path for entry in manifest.files}:
        raise ValueError("it supersedes files of its own manifest")
    return Intent(transaction, manifest, tuple(superseded))
