"""Files at the paths of a partition that this program did not make: they are never overwritten.

A file is ours if a manifest of its partition names it. Where a partition has no manifest (it was removed, or a loss of
power took it), its files are ours if the partition's claims say that files of it were ever moved into place.
"""

from collections.abc import Iterable, Mapping

from laion_assets.errors import StoreError
from laion_assets.store.lease import is_committed
from laion_assets.store.store import Store

_NAMED = 5


def refuse_foreign_files(store: Store, asset: str, places: Mapping[str, Iterable[str]]) -> None:
    """Raise StoreError if something is at the paths of an unpublished partition that this program did not put there.

    `places` are the paths of each partition's files, by its key. The manifests are listed once, and only paths of
    partitions without one are looked at. The commit of each partition looks again (`Publication.commit`).
    """
    published = set(store.names(f"manifests/{asset}"))
    key_of = {path: key for key, paths in places.items() if f"{key}.json" not in published for path in paths}
    taken = store.taken(key_of)
    ours = {key for key in {key_of[path] for path in taken} if is_committed(store, asset, key)}
    if foreign := [path for path in taken if key_of[path] not in ours]:
        raise foreign_files_error(store, asset, foreign)


def foreign_files_error(store: Store, asset: str, paths: list[str]) -> StoreError:
    """The refusal to overwrite these files."""
    named = ", ".join(store.address(path) for path in paths[:_NAMED])
    more = f" and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
    return StoreError(
        f"{asset} would overwrite {named}{more}, which no manifest names: this program did not make "
        f"{'it' if len(paths) == 1 else 'them'}. Nothing was changed. Move {'it' if len(paths) == 1 else 'them'} away, "
        "or choose another root (setting `root`)."
    )
