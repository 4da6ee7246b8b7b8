"""Publishing a partition: staged files, then an intent, then the moves, and last of all the manifest.

    staging/ASSET/KEY/ATTEMPT/...   files in the making, on the store's own disk (a temporary folder for object stores);
                                    the attempt's name says whose it is
    staging/ASSET/KEY/intent.json   the manifest to be, once all files are staged: from here on it rolls forward
    manifests/ASSET/KEY.json        the partition is complete

A file at the partition's paths that no manifest of it names and no publication of it can have left is somebody else's:
the commit is refused. Files that the manifest before named and the new one does not are deleted by the commit.

A process killed before the intent leaves only staging, which the next attempt removes. One killed after it is rolled
forward by whoever looks at the partition next, so old and new files are never mixed under one manifest.
"""

import contextlib
import dataclasses
import hashlib
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from laion_assets.errors import IntegrityError, ReplacedError, StoreError
from laion_assets.store.foreign_files import foreign_files_error
from laion_assets.store.intent import INTENT, Intent, intent_path, read_intent, staging_of
from laion_assets.store.lease import Lease, is_alive, lease, living_name
from laion_assets.store.manifest import (
    WHOLE,
    Counts,
    FileEntry,
    Manifest,
    disagreement,
    entry_of,
    manifest_path,
    read_manifest,
)
from laion_assets.store.store import Store

_BEGUN_INTENT = f".{INTENT}."
"""What a kill leaves of an intent that was being written."""


class Transaction:
    """One attempt to publish a partition; made by `publication()`."""

    def __init__(self, store: Store, asset: str, key: str, transaction: str, folder: Path) -> None:
        self.store = store
        self.asset = asset
        self.key = key
        self.folder = folder
        self.manifest: Manifest | None = None
        self._attempt = transaction
        self._staged: dict[str, tuple[Path, bool]] = {}
        self._hashed: dict[str, FileEntry] = {}
        self._kept: dict[str, FileEntry] = {}
        self._started = time.monotonic()

    def stage(self, path: str, *, repeatable: bool = True) -> Path:
        """A local path to write the file that is to be published at `path` (relative to the store)."""
        staged = self.folder / _staged_name(path)
        self._staged[path] = (staged, repeatable)
        return staged

    def stage_hashed(self, entry: FileEntry) -> Path:
        """As `stage`, for a file whose size and sha256 were taken while it was written: it is not read again."""
        self._hashed[entry.path] = entry
        return self.stage(entry.path, repeatable=entry.repeatable)

    def keep(self, entry: FileEntry) -> None:
        """A file of the partition's current manifest that stays as it is: neither copied nor read."""
        self._kept[entry.path] = entry

    def commit(
        self,
        counts: Counts,
        *,
        settings: str,
        inputs: str,
        outputs: dict[str, str] | None = None,
        details: dict[str, Any] | None = None,
        replaces: Manifest | None = None,
    ) -> Manifest:
        """Check the law, publish every staged file and put the manifest.

        If another run published the same partition from the same inputs and settings meanwhile, its files stay and
        its manifest is returned. `replaces` is the manifest that the staged files were made from, where they add to
        a partition: nothing is published unless it still stands, and where they hold nothing new only the manifest's
        details are put. Raises ConservationError, IntegrityError for a staged file that was never written or a kept
        one that is no longer published, StoreError for a file in the way that this program did not make,
        ReplacedError and ClaimError.
        """
        counts.check(f"{self.asset} {self.key}")
        missing = [path for path, (staged, _) in self._staged.items() if not staged.exists()]
        if missing:
            raise IntegrityError(f"{self.asset} {self.key}: staged but never written: {', '.join(missing)}.")
        made = [
            self._hashed.get(path) or entry_of(staged, path, repeatable)
            for path, (staged, repeatable) in self._staged.items()
        ]
        manifest = Manifest(
            asset=self.asset,
            key=self.key,
            files=tuple(sorted((*made, *self._kept.values()), key=lambda entry: entry.path)),
            counts=counts,
            settings=settings,
            inputs=inputs,
            outputs=outputs or {},
            details=details or {},
            published_at=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self._started, 3),
        )
        with lease(self.store, self.asset, self.key) as held:
            _roll_forward(self.store, self.asset, self.key)
            current = _readable_manifest(self.store, self.asset, self.key)
            if replaces is not None and current != replaces:
                raise ReplacedError(
                    f"{self.asset} {self.key} was published by another run while this one added to it: nothing was "
                    "changed. Run it again."
                )
            if (
                current is not None
                and (current.settings, current.inputs, current.content)
                == (manifest.settings, manifest.inputs, manifest.content)
                and disagreement(self.store, current, hashes=True) is None
            ):
                if replaces is not None:
                    current = dataclasses.replace(manifest, files=current.files)
                    self.store.write_bytes(manifest_path(self.asset, self.key), current.to_json())
                self.manifest = current
                return current
            self._check_kept(current)
            self._check_free(current, held)
            staging = staging_of(self.asset, self.key)
            moves = {f"{staging}/{self._attempt}/{staged.name}": staged for staged, _ in self._staged.values()}
            self.store.move_all_in(moves)
            # Where nothing is replaced, a loss of power may take the intent: the partition is only made once more.
            replacing = current is not None
            if replacing:
                self.store.sync([f"{staging}/{self._attempt}"])
            before = {entry.path for entry in current.files} if current is not None else set()
            superseded = tuple(sorted(before - {entry.path for entry in manifest.files}))
            intent = Intent(self._attempt, manifest, superseded)
            held.is_committed = True
            self.store.write_bytes(intent_path(self.asset, self.key), intent.to_json(), durable=replacing)
            _roll_forward(self.store, self.asset, self.key)
        self.manifest = manifest
        return manifest

    def _check_free(self, current: Manifest | None, held: Lease) -> None:
        """Refuse to replace files that this program did not make, before anything is moved. Raises StoreError."""
        if current is None and (
            held.is_committed or self.store.is_taken(manifest_path(self.asset, self.key))  # A damaged manifest.
        ):
            return
        ours = {entry.path for entry in current.files} if current is not None else set()
        taken = self.store.taken(path for path in self._staged if path not in ours)
        if taken:
            raise foreign_files_error(self.store, self.asset, taken)

    def _check_kept(self, current: Manifest | None) -> None:
        """Refuse kept files that the manifest of this moment does not promise, before anything is moved."""
        if not self._kept:
            return
        promised = {entry.path: entry for entry in current.files} if current is not None else {}
        sizes = self.store.sizes(self._kept)
        for path, entry in self._kept.items():
            if promised.get(path) != entry or sizes[path] != entry.size:
                raise IntegrityError(
                    f"{self.asset} {self.key}: {self.store.address(path)} was to stay as it is, and another run "
                    "changed it meanwhile. Nothing was published: run it again."
                )


@contextlib.contextmanager
def open_transaction(store: Store, asset: str, key: str = WHOLE) -> Iterator[Transaction]:
    """An attempt to publish a partition; its staging folder is removed at the end, whatever happens in the body."""
    with living_name() as transaction, contextlib.ExitStack() as stack:
        local = store.local_path(f"staging/{asset}/{key}/{transaction}")
        try:
            if local is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="laion-assets-")))
            else:
                folder = local
                _make_staging(local)
            yield Transaction(store, asset, key, transaction, folder)
        finally:
            _clear(store, asset, key, transaction)
            if local is not None:
                with contextlib.suppress(OSError):
                    local.parent.rmdir()


def recover(store: Store, asset: str, key: str = WHOLE) -> Manifest | None:
    """Finish a publication that was killed midway, remove what dead attempts left, and return the manifest, if any.

    Call it before deciding whether a partition has to be made. A damaged manifest counts as none.
    """
    staging = staging_of(asset, key)
    names = store.names(staging)
    begun = [name for name in names if name.startswith(_BEGUN_INTENT)]
    if INTENT in names or begun:
        with lease(store, asset, key) as held:  # intents are written by who holds it
            held.is_committed = True
            for name in begun:
                store.delete(f"{staging}/{name}")
            _roll_forward(store, asset, key)
    for name in names:
        if name != INTENT and name not in begun and not is_alive(name):
            store.delete(f"{staging}/{name}")
    if (local := store.local_path(staging)) is not None:
        with contextlib.suppress(OSError):
            local.rmdir()
    return _readable_manifest(store, asset, key)


def _staged_name(path: str) -> str:
    """One name for each path, never longer than a file name may be, that ends as the path does."""
    return f"{hashlib.sha256(path.encode()).hexdigest()[:24]}-{path.rpartition('/')[2][-50:]}"


def _make_staging(folder: Path) -> None:
    """Make an attempt's folder; another attempt may be removing the parent at this moment."""
    for _ in range(100):
        with contextlib.suppress(FileNotFoundError):
            folder.mkdir(parents=True, exist_ok=True)
            return
    raise IntegrityError(f"{folder} cannot be made: something keeps removing it.")


def _clear(store: Store, asset: str, key: str, transaction: str) -> None:
    """Remove an attempt's staging, unless an intent still needs it."""
    with contextlib.suppress(ValueError, StoreError):
        intent = read_intent(store, asset, key)
        if intent is not None and intent.transaction == transaction:
            return
    store.delete(f"{staging_of(asset, key)}/{transaction}")


def _roll_forward(store: Store, asset: str, key: str) -> None:
    """Finish the moves that an intent promises. The caller holds the claim. Raises IntegrityError, StoreError."""
    try:
        intent = read_intent(store, asset, key)
    except ValueError:  # a loss of power left its name alone, so nothing that was published was touched
        store.delete(intent_path(asset, key))
        return
    if intent is None:
        return
    manifest, folder = intent.manifest, f"{staging_of(asset, key)}/{intent.transaction}"
    waiting = set(store.names(folder))
    staged = {_staged_name(entry.path): entry.path for entry in manifest.files}
    sources = {path: f"{folder}/{name}" for name, path in staged.items() if name in waiting}
    problem = _obstacle(store, manifest, sources)
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
        raise IntegrityError(f"{asset} {key} was left half published and cannot be finished: {problem}. Run it again.")


def _obstacle(store: Store, manifest: Manifest, sources: dict[str, str]) -> str | None:
    """Why an intent cannot be finished, found out before what is published is touched; None if it can.

    `sources` are the staged files by the path they go to; the others are in place already.
    """
    places = {entry.path: sources.get(entry.path, entry.path) for entry in manifest.files}
    sizes = store.sizes(places.values())
    for entry in manifest.files:
        place = places[entry.path]
        if sizes[place] is None:
            return store.problem_at(place)
        if sizes[place] != entry.size:
            return f"{store.address(place)} has {sizes[place]} bytes, and {entry.size} are promised"
    return None


def _readable_manifest(store: Store, asset: str, key: str) -> Manifest | None:
    """The manifest, None where there is none or a damaged one. Raises StoreError for what is not a file."""
    try:
        return read_manifest(store, asset, key)
    except StoreError:
        raise
    except IntegrityError:
        return None
