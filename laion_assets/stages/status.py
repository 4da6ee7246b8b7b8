"""Which partitions are complete, stale, missing or damaged, from manifests.

A stage records the digests of its settings and inputs in the manifest when it commits; status, checks and reruns
compare them with the digests of today. Stale means built with other settings or from other inputs. It is shown. Only a
materialization rebuilds it.
"""

import contextlib
import gc
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import IncompleteError, IntegrityError
from laion_assets.stages.handle import Handle
from laion_assets.stages.registry import find_stage
from laion_assets.stages.stage import UNCHECKED_INPUTS, Stage, inputs_digest
from laion_assets.store.local_failure_notes import noted_keys, read_note
from laion_assets.store.manifest import Manifest, disagreement, read_manifest
from laion_assets.store.store import Store
from laion_assets.store.transaction import recover

_READERS, _READ_AT_ONCE = 8, 256
"""Threads that read manifests ahead where the disk is slow, and how many manifests each reads at once."""

SETTINGS_CHANGED, INPUTS_CHANGED, REBUILD = "settings changed", "inputs changed", "rebuild requested"
"""Why a partition is stale."""


class State(StrEnum):
    """The state of a partition."""

    COMPLETE = "complete"
    STALE = "stale"
    MISSING = "missing"
    DAMAGED = "damaged"


@dataclass(frozen=True)
class PartitionState:
    """State of one partition, and the reason if it is not complete.

    `local_failure`: it is missing because the last run did not commit it, after a failure of its machine or network.
    The reason describes what was observed.
    """

    asset: str
    key: str
    state: State
    reason: str = ""
    manifest: Manifest | None = None
    local_failure: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether a rerun skips the partition."""
        return self.state is State.COMPLETE


def compare(
    manifest: Manifest,
    settings: str,
    inputs: str | None,
    problem: str | None,
    adopted: str = "",
    rebuild_before: str = "",
) -> PartitionState:
    """Return the state of a committed partition: the one rule by which a partition is complete.

    `settings` and `inputs` are the digests of today; None for `inputs` that cannot be known. `problem` is what
    `disagreement` found between the manifest and its files. `adopted` is the digest that an adopted partition has in
    place of `settings`. Inputs that were not committed when a partition was adopted are never compared. Partitions that
    were committed before the time `rebuild_before` count as stale.
    """
    if problem is not None:
        return PartitionState(manifest.asset, manifest.key, State.DAMAGED, problem, manifest)
    if manifest.settings != (adopted if adopted and manifest.is_adopted else settings):
        return PartitionState(manifest.asset, manifest.key, State.STALE, SETTINGS_CHANGED, manifest)
    unchecked = manifest.is_adopted and manifest.inputs == UNCHECKED_INPUTS
    if inputs is not None and manifest.inputs != inputs and not unchecked:
        return PartitionState(manifest.asset, manifest.key, State.STALE, INPUTS_CHANGED, manifest)
    if manifest.committed_at < rebuild_before:  # both are ISO 8601 in UTC
        return PartitionState(manifest.asset, manifest.key, State.STALE, REBUILD, manifest)
    return PartitionState(manifest.asset, manifest.key, State.COMPLETE, "", manifest)


def state_before_run(
    store: Store,
    stage: Stage,
    name: str,
    key: str,
    settings: str,
    inputs: str,
    adopted: str = "",
    rebuild_before: str = "",
) -> PartitionState:
    """Roll an interrupted commit forward, then return the partition's state: a run skips it if it is complete.

    `name` is the stage's, or `NAME_parts` of its partial results. `settings`, `inputs`, `adopted` and `rebuild_before`
    are those of `compare`. Compares the sha256 of every file where the stage asks for it, else the sizes. A damaged
    manifest counts as missing.
    """
    manifest = recover(store, name, key)
    if manifest is None:
        return PartitionState(name, key, State.MISSING, "not committed")
    problem = disagreement(store, manifest, hashes=stage.hashes_before_skip)
    return compare(manifest, settings, inputs, problem, adopted, rebuild_before)


def rebuild_all(dataset: Dataset) -> Dataset:
    """Return the dataset with every partition that is committed now counted as stale.

    Commits have their time in whole seconds. Waits for the next second, so that later commits count as complete.
    """
    time.sleep(1 - time.time() % 1)
    return replace(dataset, rebuild_before=datetime.now(UTC).isoformat(timespec="seconds"))


def settings_digest(dataset: Dataset, asset: str) -> str:
    """Digest of the settings that change the bytes of a stage's files, as the dataset has them now."""
    return find_stage(asset).settings_digest(dataset)


def committed_upstream(dataset: Dataset, store: Store, asset: str) -> list[Manifest]:
    """The manifests of the committed partitions of the stage before, in order."""
    before, numbers = find_stage(asset).upstream_partitions(dataset, 0)
    if before is None:
        return []
    found = [read_manifest(store, before.name, before.handle.key(dataset.layout, number)) for number in numbers]
    return [manifest for manifest in found if manifest is not None]


class DatasetStatus:
    """The states of a dataset's partitions. Reads each manifest once and caches it."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.store = Store.of(dataset)
        self._manifests: dict[tuple[str, int], Manifest | None] = {}
        self._problems: dict[tuple[str, int], str | None] = {}
        self._settings: dict[str, tuple[str, str]] = {}
        self._noted: dict[str, frozenset[str]] = {}

    def state(self, asset: str, partition: int) -> PartitionState:
        """The state of one partition."""
        handle = find_stage(asset).handle
        key = handle.key(self.dataset.layout, partition)
        try:
            manifest = self._manifest(handle, partition)
        except IntegrityError as error:
            return PartitionState(asset, key, State.DAMAGED, str(error))
        if manifest is None:
            note = self._read_local_failure(asset, key)
            return PartitionState(asset, key, State.MISSING, note or "not committed", local_failure=bool(note))
        known = (asset, partition)
        problem = self._problems.pop(known) if known in self._problems else disagreement(self.store, manifest)
        if asset not in self._settings:
            stage = find_stage(asset)
            self._settings[asset] = stage.settings_digest(self.dataset), stage.adopted_digest(self.dataset)
        settings, adopted = self._settings[asset]
        inputs = self.expected_inputs(asset, partition)
        return compare(manifest, settings, inputs, problem, adopted, self.dataset.rebuild_before)

    def states(self, asset: str) -> list[PartitionState]:
        """The states of all partitions of an asset, in order."""
        handle = find_stage(asset).handle
        partitions = handle.numbers(self.dataset.layout)
        with garbage_collector_off():
            self._read_ahead(handle, partitions)
            return [self.state(asset, partition) for partition in partitions]

    def manifests(self, asset: str) -> Iterator[Manifest]:
        """Yield the manifests of the committed partitions of an asset, in order, without a look at their files."""
        handle = find_stage(asset).handle
        partitions = handle.numbers(self.dataset.layout)
        with garbage_collector_off():
            self._read_ahead(handle, partitions, files=False)
            for partition in partitions:
                manifest = self.committed(asset, partition)
                if manifest is not None:
                    yield manifest

    def committed(self, asset: str, partition: int) -> Manifest | None:
        """The manifest of a partition, None if it is not committed or its manifest is damaged."""
        try:
            return self._manifest(find_stage(asset).handle, partition)
        except IntegrityError:
            return None

    def expected_inputs(self, asset: str, partition: int) -> str | None:
        """Digest of the current inputs of the partition; None for a source and where an input is not committed."""
        stage = find_stage(asset)
        before, partitions = stage.upstream_partitions(self.dataset, partition)
        if before is None:
            return None
        upstream = []
        for number in partitions:
            try:
                manifest = self._manifest(before.handle, number)
            except IntegrityError:
                return None
            if manifest is not None:
                upstream.append(manifest)
            elif not stage.reads_incomplete_input:
                return None
        return inputs_digest(stage.handle.key(self.dataset.layout, partition), upstream)

    def _read_local_failure(self, asset: str, key: str) -> str:
        """Return why the last run did not commit the partition: a local failure; empty if there was none."""
        if asset not in self._noted:
            self._noted[asset] = noted_keys(self.store, asset)
        return read_note(self.store, asset, key) if key in self._noted[asset] else ""

    def _read_ahead(self, handle: type[Handle], partitions: Sequence[int], *, files: bool = True) -> None:
        """Read manifests (and file sizes), in threads if the first reads mostly waited for a disk or a network.

        Without waits, threads would only contend for the interpreter's lock and take twice the time.
        """

        def read(part: Sequence[int]) -> None:
            for partition in part:
                with contextlib.suppress(IntegrityError):  # `state` raises it again
                    manifest = self._manifest(handle, partition)
                    if files and manifest is not None:
                        self._problems[handle.asset, partition] = disagreement(self.store, manifest)

        parts = [partitions[start : start + _READ_AT_ONCE] for start in range(0, len(partitions), _READ_AT_ONCE)]
        started, worked = time.perf_counter(), time.thread_time()
        read(parts.pop(0))
        if time.thread_time() - worked < (time.perf_counter() - started) / 2:
            with ThreadPoolExecutor(_READERS, thread_name_prefix="manifests") as pool:
                list(pool.map(read, parts))

    def _manifest(self, handle: type[Handle], partition: int) -> Manifest | None:
        found = (handle.asset, partition)
        if found not in self._manifests:
            key = handle.key(self.dataset.layout, partition)
            self._manifests[found] = read_manifest(self.store, handle.asset, key)
        return self._manifests[found]


@contextlib.contextmanager
def garbage_collector_off() -> Iterator[None]:
    """Switch the garbage collector off: it would scan a growing heap of manifests again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def require_complete(dataset: Dataset, handle: Handle) -> None:
    """Refuse partitions that are not committed or whose files disagree with their manifests.

    Stale partitions pass: they are consistent, only older than the settings. Raises IncompleteError naming up to ten.
    """
    problems = []
    for partition in handle.partitions:
        key = handle.key(handle.layout, partition)
        try:
            manifest = read_manifest(handle.store, handle.asset, key)
            problem = "not committed" if manifest is None else disagreement(handle.store, manifest)
        except IntegrityError as error:
            problem = str(error)
        if problem:
            problems.append(f"{key} ({problem})")
    if problems:
        more = f" and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise IncompleteError(
            f"{handle.asset} of {dataset.name} is incomplete: {', '.join(problems[:10])}{more}. "
            f"Materialize these partitions of {dataset.name}/{handle.asset} first."
        )
