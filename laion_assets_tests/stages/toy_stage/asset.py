"""The asset of the toy stage."""

import json
from collections import Counter

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.failures import own_errors_first
from laion_assets.orchestration.declaration import declaration, run_logger, run_partitions
from laion_assets.orchestration.reporting import Reporting, reported_output
from laion_assets.stages.dedup_parquet.handle import DedupParquet
from laion_assets.stages.stage import inputs_digest
from laion_assets.stages.status import state_before_run
from laion_assets.stages.stored_layout import prepare_store
from laion_assets.store.manifest import Counts, Manifest
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction
from laion_assets_tests.stages.toy_stage.io_manager import CaptionLanguagesIOManager
from laion_assets_tests.stages.toy_stage.stage import CAPTION_LANGUAGES, STAGE, CaptionLanguages, settings


def caption_languages_asset(dataset: Dataset) -> dg.AssetsDefinition:
    """Return `caption_languages` of a dataset."""

    @dg.asset(**declaration(STAGE, dataset))
    @own_errors_first
    def caption_languages(context: dg.AssetExecutionContext, upstream: DedupParquet) -> dg.Output[CaptionLanguages]:
        partitions = run_partitions(context, dataset, CAPTION_LANGUAGES)
        prepare_store(dataset, CAPTION_LANGUAGES, partitions, run_logger(context))
        with Reporting(context, CaptionLanguagesIOManager(dataset), partitions) as report:
            for partition in partitions:
                report(partition, count_languages(dataset, upstream, partition))
        return reported_output(CaptionLanguages.of(dataset, partitions))

    return caption_languages


def count_languages(dataset: Dataset, rows: DedupParquet, partition: int) -> Manifest:
    """Count the captions of one parquet file, unless it is counted."""
    store, layout, key = Store.of(dataset), dataset.layout, STAGE.handle.key(dataset.layout, partition)
    inputs, digest = inputs_digest(key, [rows.manifest(partition)]), STAGE.settings_digest(dataset)
    state = state_before_run(store, STAGE, CAPTION_LANGUAGES, key, digest, inputs)
    if state.manifest is not None and state.is_complete:
        return state.manifest
    found: Counter[str] = Counter()
    for shard in layout.shards_of_parquet(partition):
        for caption in rows.shard_rows(shard).column("TEXT").to_pylist():
            found[settings["ascii_is"] if (caption or "").isascii() else "other"] += 1
    with open_transaction(store, CAPTION_LANGUAGES, key) as transaction:
        transaction.stage(STAGE.handle.paths(layout, key)[0]).write_text(json.dumps(found), encoding="utf-8")
        return transaction.commit(Counts(found.total(), found.total()), settings=digest, inputs=inputs)
