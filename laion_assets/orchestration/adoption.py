"""Adopt files of another program: verify all of them, commit their partitions, and report these to Dagster."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.settings.resolution import resolve_settings
from laion_assets.errors import AdoptionError
from laion_assets.orchestration.declaration import asset_key
from laion_assets.orchestration.instance import instance
from laion_assets.orchestration.partitions import partition_numbers
from laion_assets.orchestration.private_dagster import DATA_VERSION_TAG, RUNLESS_RUN_ID, keep_event_log_open
from laion_assets.orchestration.stage_parts import load_adoption, load_io_manager
from laion_assets.orchestration.totals import totals_event
from laion_assets.orchestration.ui.metadata_values import description
from laion_assets.orchestration.writable_folders import require_root
from laion_assets.progress import Progress
from laion_assets.stages.adoption import Candidate, Findings, Refusal
from laion_assets.stages.registry import find_stage, stage_names
from laion_assets.stages.stored_layout import check_store, prepare_store
from laion_assets.store.manifest import Manifest
from laion_assets.store.store import Store


@dataclass
class AdoptionReport:
    """The result of an adoption. If `refused` is not empty, or for a dry run, nothing was changed.

    `adopted` has the keys of the partitions that were adopted, or would be in a dry run; `present` those that were
    adopted before. `rows_in` and `rows_out` count the rows of both, and `reasons` the dropped ones. `methods` counts
    the adopted partitions by how their files were made: hard link, copy or rows rearranged. `notes` are facts about
    single partitions.
    """

    asset: str
    is_dry_run: bool
    adopted: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    notes: list[Refusal] = field(default_factory=list)
    rows_in: int = 0
    rows_out: int = 0
    bytes: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    methods: Counter[str] = field(default_factory=Counter)


def adopt(
    dataset: Dataset,
    asset: str,
    folder: str | os.PathLike[str],
    *,
    copy: bool = False,
    dry_run: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> AdoptionReport:
    """Adopt the files of another program in a local folder as partitions of a stage that allows it (`Stage.adopt`).

    Every file is verified first. If one does not fit, the report names it and nothing is changed. Files are linked
    where the disk allows it, else copied; `copy` always copies. With `dry_run`, nothing is changed in any case. The
    adopted partitions are reported to the Dagster instance of `dagster_home()`. A killed adoption continues when it is
    run again. Raises AdoptionError for a folder without such files, a stage that cannot adopt any, or a file that
    changes meanwhile; StoreError for files of an unknown origin in the dataset; LayoutError.
    """
    stage = find_stage(asset)
    if asset not in stage_names(dataset):
        raise AdoptionError(f"The dataset {dataset.name} has no stage {asset}.")
    find = load_adoption(stage)
    dataset = resolve_settings(dataset)
    store = Store.of(dataset)
    found = find(dataset, store, Path(folder).absolute(), log)
    report = _summarize(asset, found, dry_run)
    numbers = [candidate.number for candidate in found.candidates]
    check_store(dataset, asset, numbers)
    if found.refused or dry_run:
        return report
    require_root(dataset)
    committed: list[Manifest] = []
    if numbers:
        prepare_store(dataset, asset, numbers, log)
        progress = Progress(log, "partitions adopted", len(numbers), "rows")
        for candidate in found.candidates:
            manifest = candidate.commit(store, copy)
            committed.append(manifest)
            report.methods[str(manifest.adopted.get("method"))] += 1
            progress.add(1, manifest.counts.rows_out)
    _report_to_dagster(dataset, asset, committed, found.present, log)
    return report


def _summarize(asset: str, found: Findings, dry_run: bool) -> AdoptionReport:
    report = AdoptionReport(asset, dry_run, refused=found.refused, ignored=found.ignored)
    report.adopted = [candidate.key for candidate in found.candidates]
    report.present = [manifest.key for manifest in found.present]
    report.notes = [Refusal(candidate.key, candidate.note) for candidate in found.candidates if candidate.note]
    report.bytes = sum(candidate.size for candidate in found.candidates)
    both: list[Candidate | Manifest] = [*found.candidates, *found.present]
    for each in both:
        report.rows_in += each.counts.rows_in
        report.rows_out += each.counts.rows_out
        report.reasons.update(each.counts.reasons)
    return report


def _report_to_dagster(
    dataset: Dataset, asset: str, committed: list[Manifest], present: list[Manifest], log: Callable[[str], None]
) -> None:
    """Report partitions, each with its metadata, outside of a run; those adopted before only if Dagster lacks them."""
    key, manager = asset_key(dataset, asset), load_io_manager(find_stage(asset), dataset)
    with instance() as opened, keep_event_log_open(opened, RUNLESS_RUN_ID):
        known = opened.get_materialized_partitions(key) if present else set()
        manifests = [*committed, *(manifest for manifest in present if manifest.key not in known)]
        progress = Progress(log, "partitions reported to Dagster", len(manifests))
        for manifest in manifests:
            (number,) = partition_numbers(dataset, asset, [manifest.key])
            event = dg.AssetMaterialization(
                asset_key=key,
                partition=manifest.key,
                description=description(f"adopted from {manifest.adopted.get('folder')}"),
                metadata=manager.build_metadata(number, manifest),
                tags={DATA_VERSION_TAG: manifest.content},
            )
            opened.report_runless_asset_event(event)
            progress.add()
        if manifests:
            opened.report_runless_asset_event(totals_event(dataset, asset))
