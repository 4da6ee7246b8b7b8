"""The commit of a partition: files are staged, then the intent is written, then files are moved, last the manifest.

    staging/ASSET/KEY/TRANSACTION/...   staged files, on the disk of the store (a temporary folder for object stores);
                                        the name of the transaction identifies its process
    staging/ASSET/KEY/intent.json       the new manifest, once all files are staged; from here the commit rolls forward
    manifests/ASSET/KEY.json            the partition is complete

A commit is refused if a file at a path of the partition is foreign: no manifest of the partition names it, and no
commit of the partition can have left it. A commit deletes files of the previous manifest that the new manifest does not
name.

A process killed before the intent leaves only staged files, and the next transaction removes them. A commit killed
after the intent is rolled forward by the next process that opens the partition. So old and new files are never mixed
under one manifest.
"""

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from laion_assets.errors import IntegrityError, ReplacedError, StoreError
from laion_assets.store.foreign_files import foreign_files_error
from laion_assets.store.intent import INTENT, Intent, intent_path, read_intent, staging_folder
from laion_assets.store.lease import Lease, holder_name, is_alive, lease
from laion_assets.store.manifest import (
    WHOLE,
    Counts,
    FileEntry,
    Manifest,
    build_file_entry,
    disagreement,
    manifest_path,
)
from laion_assets.store.roll_forward import carry_out, read_valid_manifest, roll_forward, staged_name
from laion_assets.store.store import Store

_PARTIAL_INTENT = f".{INTENT}."
"""Prefix of the temporary file that a kill leaves while an intent is written."""


class Transaction:
    """One try to commit a partition. Opened by `open_transaction`."""

    def __init__(self, store: Store, asset: str, key: str, name: str, folder: Path) -> None:
        self.store = store
        self.asset = asset
        self.key = key
        self.folder = folder
        self.manifest: Manifest | None = None
        self._name = name
        self._staged: dict[str, tuple[Path, bool]] = {}
        self._hashed: dict[str, FileEntry] = {}
        self._kept: dict[str, FileEntry] = {}
        self._started = time.monotonic()

    def stage(self, path: str, *, repeatable: bool = True) -> Path:
        """Return the local path to write the file that will be committed at `path` (relative to the store)."""
        staged = self.folder / staged_name(path)
        self._staged[path] = (staged, repeatable)
        return staged

    def stage_hashed(self, entry: FileEntry) -> Path:
        """Stage a file whose size and sha256 are computed while it is written. It is not read again."""
        self._hashed[entry.path] = entry
        return self.stage(entry.path, repeatable=entry.repeatable)

    def keep(self, entry: FileEntry) -> None:
        """Keep a file of the current manifest unchanged. It is neither copied nor read."""
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
        """Check the row-count invariant, commit every staged file and write the manifest.

        If another run has committed the same bytes from the same inputs and settings, its files stay, and its manifest
        is returned. `replaces` is for files that add to a committed partition: the manifest that they were built from.
        Nothing is committed unless it is still the current manifest. If the files are unchanged, only the details of
        the manifest are written.

        Raises InvariantError, IntegrityError for a staged file that was not written or a kept file that is no longer
        committed, StoreError for a foreign file at a path of the partition, ReplacedError and LeaseError.
        """
        counts.check(f"{self.asset} {self.key}")
        missing = [path for path, (staged, _) in self._staged.items() if not staged.exists()]
        if missing:
            raise IntegrityError(f"{self.asset} {self.key}: files were staged but never written: {', '.join(missing)}.")
        staged_files = [
            self._hashed.get(path) or build_file_entry(staged, path, repeatable)
            for path, (staged, repeatable) in self._staged.items()
        ]
        manifest = Manifest(
            asset=self.asset,
            key=self.key,
            files=tuple(sorted((*staged_files, *self._kept.values()), key=lambda entry: entry.path)),
            counts=counts,
            settings=settings,
            inputs=inputs,
            outputs=outputs or {},
            details=details or {},
            committed_at=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(time.monotonic() - self._started, 3),
        )
        with lease(self.store, self.asset, self.key) as held:
            roll_forward(self.store, self.asset, self.key)
            current = read_valid_manifest(self.store, self.asset, self.key)
            if replaces is not None and current != replaces:
                raise ReplacedError(
                    f"{self.asset} {self.key} was committed by another run while this run added to it. Nothing was "
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
            self._check_foreign(current, held)
            staging = staging_folder(self.asset, self.key)
            moves = {f"{staging}/{self._name}/{staged.name}": staged for staged, _ in self._staged.values()}
            self.store.move_all_in(moves)
            # If nothing is replaced, a power loss may take the intent: the partition is then only built once more.
            replacing = current is not None
            if replacing:
                self.store.sync([f"{staging}/{self._name}"])
            previous = {entry.path for entry in current.files} if current is not None else set()
            superseded = tuple(sorted(previous - {entry.path for entry in manifest.files}))
            intent = Intent(self._name, manifest, superseded)
            held.has_moved_files = True
            self.store.write_bytes(intent_path(self.asset, self.key), intent.to_json(), durable=replacing)
            carry_out(self.store, intent)
        self.manifest = manifest
        return manifest

    def _check_foreign(self, current: Manifest | None, held: Lease) -> None:
        """Refuse to replace foreign files, before anything is moved. Raises StoreError."""
        if current is None and (
            held.has_moved_files or self.store.exists(manifest_path(self.asset, self.key))  # a damaged manifest
        ):
            return
        ours = {entry.path for entry in current.files} if current is not None else set()
        existing = self.store.find_existing(path for path in self._staged if path not in ours)
        if existing:
            raise foreign_files_error(self.store, self.asset, existing)

    def _check_kept(self, current: Manifest | None) -> None:
        """Refuse kept files that the current manifest does not name, before anything is moved."""
        if not self._kept:
            return
        committed = {entry.path: entry for entry in current.files} if current is not None else {}
        sizes = self.store.sizes(self._kept)
        for path, entry in self._kept.items():
            if committed.get(path) != entry or sizes[path] != entry.size:
                raise IntegrityError(
                    f"{self.asset} {self.key}: this run keeps {self.store.address(path)}, but another run changed it. "
                    "Nothing was committed. Run it again."
                )


@contextlib.contextmanager
def open_transaction(store: Store, asset: str, key: str = WHOLE) -> Iterator[Transaction]:
    """Open a transaction to commit a partition. Its staging folder is removed at the end, also after an error."""
    with holder_name() as name, contextlib.ExitStack() as stack:
        local = store.local_path(f"staging/{asset}/{key}/{name}")
        try:
            if local is None:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="laion-assets-")))
            else:
                folder = local
                _make_staging(local)
            yield Transaction(store, asset, key, name, folder)
        finally:
            _remove_staging(store, asset, key, name)
            if local is not None:
                with contextlib.suppress(OSError):
                    local.parent.rmdir()


def recover(store: Store, asset: str, key: str = WHOLE) -> Manifest | None:
    """Finish a killed commit, remove staging folders of dead transactions, and return the manifest, if any.

    Call it before deciding whether a partition must be built. A damaged manifest counts as none.
    """
    staging = staging_folder(asset, key)
    names = store.names(staging)
    partial = [name for name in names if name.startswith(_PARTIAL_INTENT)]
    if INTENT in names or partial:
        with lease(store, asset, key) as held:  # only the holder of the lease writes an intent
            held.has_moved_files = True
            for name in partial:
                store.delete(f"{staging}/{name}")
            roll_forward(store, asset, key)
    for name in names:
        if name != INTENT and name not in partial and not is_alive(name):
            store.delete(f"{staging}/{name}")
    if (local := store.local_path(staging)) is not None:
        with contextlib.suppress(OSError):
            local.rmdir()
    return read_valid_manifest(store, asset, key)


def _make_staging(folder: Path) -> None:
    """Create the folder of a transaction. Another transaction may be removing the parent at the same time."""
    for _ in range(100):
        with contextlib.suppress(FileNotFoundError):
            folder.mkdir(parents=True, exist_ok=True)
            return
    raise IntegrityError(f"{folder} cannot be created: another process keeps removing it.")


def _remove_staging(store: Store, asset: str, key: str, name: str) -> None:
    """Remove the staging folder of a transaction, unless an intent still needs it."""
    with contextlib.suppress(ValueError, StoreError):
        intent = read_intent(store, asset, key)
        if intent is not None and intent.transaction == name:
            return
    store.delete(f"{staging_folder(asset, key)}/{name}")
