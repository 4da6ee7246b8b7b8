"""A run's partitions are reported to Dagster during the run, each once, also if the run fails."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from sqlalchemy.sql.compiler import SQLCompiler

from laion_assets.dataset.dataset import Dataset
from laion_assets.orchestration import private_dagster, reporting
from laion_assets.orchestration.partitions import partitions_def
from laion_assets.orchestration.reporting import Report, Reporting, reported_output
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET, DedupParquet
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS, ImageShards
from laion_assets.stages.image_shards.io_manager import ImageShardsIOManager
from laion_assets.stages.status import settings_digest
from laion_assets.store.manifest import Counts, Manifest
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction
from laion_assets_tests.end_to_end.dagster_ui import wait_until

SHARDS = range(3, 13)
Work = Callable[[Report], None]


@pytest.fixture
def dataset(dataset: Dataset) -> Dataset:
    """The sample dataset; its shards have no image here."""
    return replace(dataset, allow_empty=True)


def commit(dataset: Dataset, shard: int) -> Manifest:
    layout = dataset.layout
    settings = settings_digest(dataset, IMAGE_SHARDS)
    with open_transaction(Store.of(dataset), IMAGE_SHARDS, layout.shard_key(shard)) as transaction:
        transaction.stage(ImageShards.path(layout, shard, ".tar")).write_bytes(b"")
        return transaction.commit(Counts(1, 0, {"http_404": 1}), settings=settings, inputs=f"rows of {shard}")


@pytest.fixture
def rows(dataset: Dataset) -> None:
    """The parquet files that the shards come from."""
    layout = dataset.layout
    for parquet in range(layout.parquet_files):
        with open_transaction(Store.of(dataset), DEDUP_PARQUET, layout.parquet_key(parquet)) as transaction:
            transaction.stage(DedupParquet.path(layout, parquet)).write_bytes(b"")
            outputs = {layout.shard_key(shard): f"rows of {shard}" for shard in layout.shards_of_parquet(parquet)}
            transaction.commit(Counts(0, 0), settings="s", inputs="i", outputs=outputs)


def run(dataset: Dataset, instance: dg.DagsterInstance, work: Work) -> dg.ExecuteInProcessResult:
    """A run over the shards 00003 to 00012, with a check downstream of its asset."""

    @dg.asset(
        key=[dataset.name, IMAGE_SHARDS],
        partitions_def=partitions_def(dataset, IMAGE_SHARDS),
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key="io",
    )
    def image_shards(context: dg.AssetExecutionContext) -> dg.Output[ImageShards]:
        with Reporting(context, ImageShardsIOManager(dataset), SHARDS) as report:
            work(report)
        return reported_output(ImageShards.of(dataset, tuple(SHARDS)))

    @dg.asset_check(asset=[dataset.name, IMAGE_SHARDS])
    def seen() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    return dg.materialize(
        [image_shards, seen],
        resources={"io": ImageShardsIOManager(dataset)},
        tags={"dagster/asset_partition_range_start": "00003", "dagster/asset_partition_range_end": "00012"},
        instance=instance,
        raise_on_error=False,
    )


def all_events(instance: dg.DagsterInstance, dataset: Dataset) -> list[dg.AssetMaterialization]:
    """The materializations of the asset, the newest first."""
    found = instance.fetch_materializations(dg.AssetKey([dataset.name, IMAGE_SHARDS]), limit=1_000)
    return [record.asset_materialization for record in found.records if record.asset_materialization is not None]


def events(instance: dg.DagsterInstance, dataset: Dataset) -> list[dg.AssetMaterialization]:
    """The materializations of partitions, without the totals."""
    return [event for event in all_events(instance, dataset) if event.partition is not None]


@pytest.mark.usefixtures("rows")
def test_a_success_reports_each_partition_once_with_its_own_metadata(
    dataset: Dataset, instance: dg.DagsterInstance
) -> None:
    def work(report: Report) -> None:
        for shard in SHARDS:
            report(shard, commit(dataset, shard))

    result = run(dataset, instance, work)
    assert result.success
    assert [check.passed for check in result.get_asset_check_evaluations()] == [True]
    assert Counter(event.partition for event in events(instance, dataset)) == {f"{shard:05d}": 1 for shard in SHARDS}
    (seventh,) = [event for event in events(instance, dataset) if event.partition == "00007"]
    assert seventh.metadata["rows_in"].value == 1
    assert str(seventh.metadata["dedup_parquet"].value).endswith("dedup_parquet?view=partitions&partition=01)")
    assert seventh.tags is not None
    assert seventh.tags["dagster/data_version"] == ImageShards.of(dataset).manifest(7).content


@pytest.mark.usefixtures("rows")
def test_partitions_appear_during_the_run(
    dataset: Dataset, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "BATCH", 4)

    def work(report: Report) -> None:
        for number, shard in enumerate(SHARDS, 1):
            report(shard, commit(dataset, shard))
            if number % 4 == 0:
                wait_until(lambda number=number: len(events(instance, dataset)) == number, 2.0, 0.05)

    assert run(dataset, instance, work).success
    assert len(events(instance, dataset)) == len(SHARDS)


@pytest.mark.usefixtures("rows")
def test_a_partition_does_not_wait_for_others_for_long(
    dataset: Dataset, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "INTERVAL_S", 0.2)

    def work(report: Report) -> None:
        for number, shard in enumerate(SHARDS, 1):
            report(shard, commit(dataset, shard))
            if number == 1:
                wait_until(lambda: len(events(instance, dataset)) == 1, 10, 0.05)

    assert run(dataset, instance, work).success


@pytest.mark.usefixtures("rows")
def test_sqlite_s_log_stays_open_while_a_run_reports(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting, "BATCH", 4)
    log = tmp_path / "history" / "runs" / "index.db-wal"
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:

        def work(report: Report) -> None:
            for number, shard in enumerate(SHARDS, 1):
                report(shard, commit(dataset, shard))
                if number % 4 == 0:
                    wait_until(lambda number=number: len(events(instance, dataset)) == number, 10, 0.05)
                    assert log.exists(), "nobody holds the log open: each event is copied into the database at once"

        assert run(dataset, instance, work).success
        assert not log.exists()


@pytest.mark.usefixtures("rows")
def test_sqlite_s_statements_are_compiled_once_a_run_and_not_once_an_event(dataset: Dataset, tmp_path: Path) -> None:
    compiled: list[str] = []
    counted = SQLCompiler.__init__

    def counting(self: SQLCompiler, *arguments: object, **options: object) -> None:
        counted(self, *arguments, **options)  # type: ignore[arg-type]
        if threading.current_thread().name == "reporting":
            compiled.append(str(self))

    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance, pytest.MonkeyPatch.context() as patch:
        # The totals belong to no run. The first such event creates a database, which later ones use.
        instance.report_runless_asset_event(dg.AssetMaterialization("other"))
        patch.setattr(SQLCompiler, "__init__", counting)
        create_engine = sqlite_event_log.create_engine

        def work(report: Report) -> None:
            for shard in SHARDS:
                report(shard, commit(dataset, shard))

        assert run(dataset, instance, work).success
        assert sqlite_event_log.create_engine is create_engine, "put back at the end"
    statements = Counter(compiled)
    assert statements, "the thread that reports writes to SQLite"
    assert max(statements.values()) < len(SHARDS) // 2, statements


@pytest.mark.usefixtures("rows")
def test_a_storage_that_fails_fails_the_run(
    dataset: Dataset, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(report: Report) -> None:
        for shard in SHARDS:
            report(shard, commit(dataset, shard))

    def failing(*_: object) -> None:
        raise OSError("the database is gone")

    with monkeypatch.context() as patch:
        patch.setattr(private_dagster.DagsterEvent, "asset_materialization", failing)
        result = run(dataset, instance, work)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "the database is gone" in str(failure.step_failure_data.error)


@pytest.mark.usefixtures("rows")
def test_what_was_complete_before_is_reported_as_skipped(dataset: Dataset, instance: dg.DagsterInstance) -> None:
    old = {shard: commit(dataset, shard) for shard in SHARDS if shard % 2}

    def work(report: Report) -> None:
        for shard in SHARDS:
            report(shard, old.get(shard) or commit(dataset, shard))

    assert run(dataset, instance, work).success
    told = {
        event.partition: (event.description, event.metadata["built_by_this_run"].value)
        for event in events(instance, dataset)
    }
    assert told["00005"] == ("already complete: skipped", False)
    assert told["00006"] == (None, True)
    assert len(told) == len(SHARDS)


@pytest.mark.usefixtures("rows")
def test_a_failed_run_reports_only_what_it_committed(dataset: Dataset, instance: dg.DagsterInstance) -> None:
    commit(dataset, 3)

    def work(report: Report) -> None:
        report(4, commit(dataset, 4))
        commit(dataset, 5)  # report by a worker whose word did not arrive before the end
        raise RuntimeError("the power is gone")

    assert not run(dataset, instance, work).success
    assert sorted(str(event.partition) for event in events(instance, dataset)) == ["00004", "00005"]


@pytest.mark.usefixtures("rows")
def test_the_last_event_of_a_run_has_the_totals_over_all_committed_partitions(
    dataset: Dataset, instance: dg.DagsterInstance
) -> None:
    commit(dataset, 20)  # of an earlier run

    def work(report: Report) -> None:
        for shard in SHARDS:
            report(shard, commit(dataset, shard))

    assert run(dataset, instance, work).success
    totals = all_events(instance, dataset)[0]
    assert totals.partition is None
    records = instance.fetch_materializations(dg.AssetKey([dataset.name, IMAGE_SHARDS]), limit=1).records
    assert records[0].run_id not in {run.run_id for run in instance.get_runs()}, "a backfill refuses it in its runs"
    assert totals.metadata["totals"].value == "11 of 24 partitions, 0 of 11 rows kept (0 %), 0 bytes"
    assert totals.metadata["total_rows_in"].value == len(SHARDS) + 1
    (record,) = totals.metadata["total_dropped_by_reason"].records
    assert record.data == {"reason": "http_404", "rows": len(SHARDS) + 1, "share": "100 %"}
    key = dg.AssetKey([dataset.name, IMAGE_SHARDS])
    assert instance.get_materialized_partitions(key) == {f"{shard:05d}" for shard in SHARDS}


@pytest.mark.usefixtures("rows")
def test_a_failed_run_updates_the_totals_and_one_without_partitions_does_not(
    dataset: Dataset, instance: dg.DagsterInstance
) -> None:
    def nothing(report: Report) -> None:
        raise RuntimeError("no shard was committed")

    assert not run(dataset, instance, nothing).success
    assert all_events(instance, dataset) == []

    def one(report: Report) -> None:
        report(4, commit(dataset, 4))
        raise RuntimeError("the power is gone")

    assert not run(dataset, instance, one).success
    assert all_events(instance, dataset)[0].metadata["partitions_committed"].value == 1
