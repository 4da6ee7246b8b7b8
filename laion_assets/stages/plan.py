"""The plan of a materialization: what would run in each stage and why, with rows, bytes and a rough time.

The states of partitions come from their manifests, as for a run. A partition whose input will be rebuilt is
complete today; whether it runs depends on the new input, so it is counted apart (`may_run`).
"""

import contextlib
import importlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import IntegrityError
from laion_assets.stages.image_shards.retry_reasons import reasons_of_shard
from laion_assets.stages.plan_estimate import Estimate, estimate
from laion_assets.stages.registry import list_stages
from laion_assets.stages.settings_record import SettingChange, find_changes
from laion_assets.stages.source_changes import FindChanges, SourceChanges
from laion_assets.stages.stage import Stage
from laion_assets.stages.status import (
    REBUILD,
    SETTINGS_CHANGED,
    DatasetStatus,
    PartitionState,
    State,
    garbage_collector_off,
)

SOURCE_CHANGED, RETRIED, OBSERVED = "source changed", "failed rows are retried", "observed in each run"
LOCAL_FAILURE = "not committed because of a local failure"
_MAX_FILES = 20


@dataclass(frozen=True)
class StagePlan:
    """What would run in one stage.

    `to_run` of `partitions` run, for the reasons of `why` (reason to number of partitions). `may_run` further ones run
    if their new input differs. `repeated` counts the partitions that are committed and would be rebuilt because of
    changed settings, here or in a stage before, or because of `--force`. `changed_settings` names the settings,
    `changed_files` the files of the source (at most 20, of `changed_file_count`).
    """

    stage: str
    partitions: int
    to_run: int
    may_run: int
    why: dict[str, int]
    repeated: int
    changed_settings: tuple[SettingChange, ...]
    changed_files: tuple[str, ...]
    changed_file_count: int
    estimate: Estimate

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs."""
        return not self.to_run and not self.may_run

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON values. Seconds, rows and bytes are null if they are unknown."""
        return {
            "partitions": self.partitions,
            "to_run": self.to_run,
            "may_run": self.may_run,
            "why": self.why,
            "changed_settings": [vars(change) for change in self.changed_settings],
            "changed_files": list(self.changed_files),
            "changed_file_count": self.changed_file_count,
            **vars(self.estimate),
        }


def check_source(dataset: Dataset, assets: Collection[str]) -> SourceChanges | None:
    """Return what changed at the dataset's source, None if its first stage is not among these.

    None also if the record of its files is damaged: then the stage runs anyway. Raises SourceError.
    """
    for stage in list_stages(dataset):
        if stage.find_changes and stage.name in assets:
            module, _, name = stage.find_changes.partition(":")
            find: FindChanges = getattr(importlib.import_module(module), name)
            with contextlib.suppress(IntegrityError):
                return find(dataset)
    return None


def make_plan(
    dataset: Dataset,
    assets: Collection[str],
    within: range | None = None,
    retry: tuple[str, ...] = (),
    changes: SourceChanges | None = None,
) -> list[StagePlan]:
    """Return the plan of each asset, in the order of the pipeline. Reads manifests and file sizes, and changes nothing.

    `within` limits it to these partition numbers, `retry` to the failed rows of complete shards. `changes` are those of
    the source. Partitions that were committed before `dataset.rebuild_before` are planned to be rebuilt.
    """
    with garbage_collector_off():  # until the manifests are freed
        return _plan_stages(dataset, assets, within, retry, changes or SourceChanges())


def _plan_stages(
    dataset: Dataset, assets: Collection[str], within: range | None, retry: tuple[str, ...], changes: SourceChanges
) -> list[StagePlan]:
    status, work = DatasetStatus(dataset), _Work({}, set())
    selected = [stage for stage in list_stages(dataset) if stage.name in assets]
    return [_plan_stage(dataset, status, stage, within, retry, changes, work) for stage in selected]


@dataclass
class _Work:
    """The partitions of earlier stages that run or may run, by stage, and the stages with changed settings."""

    numbers: dict[str, Collection[int]]
    repeating: set[str]


def _plan_stage(
    dataset: Dataset,
    status: DatasetStatus,
    stage: Stage,
    within: range | None,
    retry: tuple[str, ...],
    changes: SourceChanges,
    work: _Work,
) -> StagePlan:
    numbers = stage.handle.numbers(dataset.layout)
    states = dict(zip(numbers, status.states(stage.name), strict=True))
    selected = [number for number in numbers if within is None or number in within]
    is_source = stage.upstream is None
    why: Counter[str] = Counter()
    to_run = []
    for number in selected:
        reason = _find_reason(dataset, stage, states[number], retry, bool(changes) and is_source)
        if reason:
            why[reason] += 1
            to_run.append(number)
    changed = _find_setting_changes(dataset, status, stage, states.values())
    before = stage.upstream(dataset).name if stage.upstream else ""
    may_run = [] if retry else _find_affected(dataset, stage, selected, states, work.numbers.get(before, ()))
    repeated = sum(
        states[number].manifest is not None and states[number].reason in (SETTINGS_CHANGED, REBUILD)
        for number in to_run
    )
    if before in work.repeating:
        repeated += len(may_run)
    if repeated and not retry:
        work.repeating.add(stage.name)
    work.numbers[stage.name] = {*to_run, *may_run} if why.keys() != {OBSERVED} else set()
    files = changes.named if is_source else ()
    return StagePlan(
        stage=stage.name,
        partitions=len(numbers),
        to_run=len(to_run),
        may_run=len(may_run),
        why=dict(why.most_common()),
        repeated=repeated,
        changed_settings=changed,
        changed_files=files[:_MAX_FILES],
        changed_file_count=len(files),
        estimate=estimate(dataset, status, stage, states, to_run, retry, changes, work.numbers.get(before, ())),
    )


def _find_reason(
    dataset: Dataset, stage: Stage, state: PartitionState, retry: tuple[str, ...], source_changed: bool
) -> str:
    """Return why a partition runs, empty if it does not."""
    if retry:
        fails = state.is_complete and state.manifest and reasons_of_shard(dataset, state.manifest, retry)
        return RETRIED if fails else ""
    if state.state is State.MISSING:
        return LOCAL_FAILURE if state.local_failure else "missing"
    if state.state is State.DAMAGED:
        return "damaged"
    if not state.is_complete:
        return state.reason
    if source_changed:
        return SOURCE_CHANGED
    return OBSERVED if stage.is_observed else ""


def _find_affected(
    dataset: Dataset,
    stage: Stage,
    selected: Sequence[int],
    states: dict[int, PartitionState],
    changing: Collection[int],
) -> list[int]:
    """Return the complete partitions that read a partition which runs or may run."""
    if not changing or stage.upstream is None:
        return []
    complete = [number for number in selected if states[number].is_complete]
    if stage.reads is None:
        return complete
    return [number for number in complete if not changing.isdisjoint(stage.reads(dataset.layout, number))]  # type: ignore[attr-defined]


def _find_setting_changes(
    dataset: Dataset, status: DatasetStatus, stage: Stage, states: Collection[PartitionState]
) -> tuple[SettingChange, ...]:
    """Return the settings that differ from those of the stale partitions."""
    stale = [state.manifest for state in states if state.reason == SETTINGS_CHANGED and state.manifest is not None]
    found = {
        change.name: change
        for digest in {manifest.settings for manifest in stale}
        for change in find_changes(dataset, status.store, stage, digest)
    }
    return tuple(found[name] for name in sorted(found))
