"""Foreign files: files at the paths of a partition that this program did not write. Never overwritten.

A file is ours if a manifest of its partition names it. A partition may have lost its manifest (a person removed it, or
a power loss took it). Its files are then ours if its leases record that files of it were ever moved into place.
"""

from collections.abc import Iterable, Mapping

from laion_assets.errors import StoreError
from laion_assets.store.lease import has_moved_files
from laion_assets.store.store import Store

_MAX_NAMED = 5


def refuse_foreign_files(store: Store, asset: str, places: Mapping[str, Iterable[str]]) -> None:
    """Raise StoreError if a foreign file is at the path of a partition that is not committed.

    `places` has the file paths of each partition, by its key. The manifests are listed once, and only paths of
    partitions without a manifest are looked up. The commit of each partition checks again (`Transaction.commit`).
    """
    committed = set(store.names(f"manifests/{asset}"))
    key_of = {path: key for key, paths in places.items() if f"{key}.json" not in committed for path in paths}
    existing = store.find_existing(key_of)
    ours = {key for key in {key_of[path] for path in existing} if has_moved_files(store, asset, key)}
    if foreign := [path for path in existing if key_of[path] not in ours]:
        raise foreign_files_error(store, asset, foreign)


def foreign_files_error(store: Store, asset: str, paths: list[str]) -> StoreError:
    """Build the error that refuses to overwrite these files."""
    named = ", ".join(store.address(path) for path in paths[:_MAX_NAMED])
    more = f" and {len(paths) - _MAX_NAMED:,} more" if len(paths) > _MAX_NAMED else ""
    them = "it" if len(paths) == 1 else "them"
    return StoreError(
        f"{asset} would overwrite {named}{more}. No manifest names {them}, so this program did not write {them}. "
        f"Nothing was changed. Move {them} away, or choose another root (setting `root`)."
    )
