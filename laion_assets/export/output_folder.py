"""The folder or object-store prefix of an export. Files are committed as the pipeline's partitions are.

    recipe.json                  last of all: the export is finished
    unfinished.json              until then: the digest of the recipe
    shards/00000.tar ...         the files of a webdataset export; rows/00000.csv of a list; uids/uids.npy
    manifests/ leases/ staging/  until the export is finished: finished files, and work in progress

A killed export leaves no part of a file in place. The same command continues after the last finished file.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from laion_assets.errors import ExportError, IntegrityError
from laion_assets.export.rows.counts import DUPLICATE, ExportCounts
from laion_assets.store.lease import lease
from laion_assets.store.manifest import Counts, FileEntry, Manifest, disagreement
from laion_assets.store.paths import checked_path
from laion_assets.store.store import Store
from laion_assets.store.stored_json import parse_object
from laion_assets.store.transaction import open_transaction, recover

RECIPE = "recipe.json"
UNFINISHED = "unfinished.json"
_WORK = ("manifests", "leases", "staging")
_PARTIAL = (f".{RECIPE}.", f".{UNFINISHED}.")
"""Prefixes of temporary files that a kill leaves while one of the two is written."""
_MAX_RECIPE_BYTES = 256 << 20
_LEASE = "export"
_LEASE_WAIT_S = 2.0


class OutputFolder:
    """The place of an export with the digest of its recipe. `kind` is the folder of its files."""

    def __init__(self, url: str, kind: str, digest: str) -> None:
        self.store = Store(url.rstrip("/") or url)
        self.kind = kind
        self.digest = digest

    @contextlib.contextmanager
    def opened(self) -> Iterator[bool]:
        """Prepare the folder, and yield whether a finished export with the same digest is in it.

        Raises ExportError for a folder with other files or another export, LeaseError while another process exports to
        it.
        """
        self._refuse_foreign()
        with lease(self.store, _LEASE, "all", wait_s=_LEASE_WAIT_S):
            state = self._read(RECIPE)
            if state is None:
                self.store.write_bytes(UNFINISHED, (json.dumps({"digest": self.digest}) + "\n").encode())
            yield state is not None
        if self.store.exists(RECIPE):
            for name in (*_WORK, UNFINISHED):
                self.store.delete(name)

    def _refuse_foreign(self) -> None:
        listed = [name for name in self.store.names("") if name]
        partial = [name for name in listed if name.startswith(_PARTIAL)]
        names = set(listed) - set(partial)
        state = self._read(RECIPE) or self._read(UNFINISHED)
        if state is not None and state != self.digest:
            raise ExportError(
                f"{self.store.url} has an export of another recipe (digest {state[:12]}, this one has "
                f"{self.digest[:12]}): the predicate, an option, the dataset or the version differs. Nothing was "
                "written. Choose a new folder."
            )
        known = {RECIPE, UNFINISHED, self.kind, *_WORK}
        foreign = sorted(names - known) if state is not None else sorted(names - {"leases"})
        if foreign:
            raise ExportError(
                f"{self.store.url} is not empty: it has {', '.join(foreign[:3])}"
                f"{' and more' if len(foreign) > 3 else ''}. Nothing was written. Choose a new folder."
            )
        for name in partial:
            self.store.delete_file(name)

    def _read(self, name: str) -> str | None:
        """Return the digest in a file of the folder, None without it."""
        try:
            digest = parse_object(self.store.read_bytes(name, _MAX_RECIPE_BYTES)).get("digest")
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ExportError(
                f"{self.store.address(name)} is not of an export ({error}). Choose a new folder."
            ) from error
        return str(digest)

    def finished(self, key: str) -> Manifest | None:
        """Return the manifest of a finished file or shard of this export, None if it must be written."""
        manifest = recover(self.store, self.kind, key)
        if manifest is None or manifest.settings != self.digest or disagreement(self.store, manifest):
            return None
        return manifest

    def write(self, key: str, names: list[str], rows: int, build: Callable[[dict[str, Path]], int]) -> Manifest:
        """Write the files of a shard. `build` writes them to local paths by name, and returns the rows written."""
        with open_transaction(self.store, self.kind, key) as transaction:
            written = build({name: transaction.stage(f"{self.kind}/{name}") for name in names})
            return transaction.commit(
                Counts(rows, written, {DUPLICATE: rows - written} if rows > written else {}),
                settings=self.digest,
                inputs=self.digest,
            )

    def finish(self, content: bytes) -> None:
        """Write `recipe.json`, which marks the export as finished."""
        self.store.write_bytes(RECIPE, content)

    def finished_results(self) -> tuple[ExportCounts, int]:
        """Return the counts and the size in bytes of a finished export, from `recipe.json`.

        Raises IntegrityError naming the first file whose size differs from it, ExportError if it is damaged.
        """
        stored = parse_object(self.store.read_bytes(RECIPE, _MAX_RECIPE_BYTES))
        try:
            entries = {checked_path(str(entry["path"])): int(entry["size"]) for entry in stored["files"]}
            counts = stored["counts"]
            found = ExportCounts(counts["read"], counts["selected"], counts["written"], Counter(counts["reasons"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ExportError(f"{self.store.address(RECIPE)} is damaged: {error}. Choose a new folder.") from error
        for path, size in self.store.sizes(entries).items():
            if size != entries[path]:
                raise IntegrityError(
                    f"{self.store.address(path)} has {size} bytes, but {RECIPE} lists {entries[path]}: it was altered "
                    "after the export. Export to a new folder."
                )
        return found, sum(entries.values())


def files_of(manifests: list[Manifest]) -> list[FileEntry]:
    """Return the files of an export, by path."""
    return sorted((entry for manifest in manifests for entry in manifest.files), key=lambda entry: entry.path)
