"""A run of `image_shards` in Dagster: its config and its metadata."""

from dataclasses import replace

import dagster as dg

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.definitions import build_definitions
from laion_assets.orchestration.partitions import partitions_def
from laion_assets.orchestration.resources.crawl_site import CrawlSiteResource
from laion_assets.orchestration.resources.spark import SparkResource
from laion_assets.stages.dedup_parquet.handle import DEDUP_PARQUET
from laion_assets.stages.dedup_parquet.io_manager import DedupParquetIOManager
from laion_assets.stages.image_shards.asset import image_shards_asset
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.image_shards.io_manager import ImageShardsIOManager
from laion_assets.store.manifest import read_manifest
from laion_assets.store.store import Store
from laion_assets_tests.stages.image_shards.images import jpeg
from laion_assets_tests.stages.image_shards.shards import dataset_of
from laion_assets_tests.stages.image_shards.site import answer, running


def test_the_launchpad_explains_retries() -> None:
    job = build_definitions(SAMPLE).resolve_implicit_global_asset_job_def()
    fields = job.get_node_named("sample__image_shards").definition.config_field.config_type.fields  # type: ignore[union-attr]
    assert "Fetch only the failed rows of complete shards again" in fields["retry"].description
    assert not fields["retry"].is_required


def test_a_run_with_retry_fetches_failed_rows_again_and_reports_it(tmp_path) -> None:  # type: ignore[no-untyped-def]
    pages = {f"/{n}.jpg": answer(jpeg(90, 70, n)) for n in range(4)}
    down = {"/1.jpg": answer(b"", "503 Service Unavailable")}
    with running(pages | down) as site:
        dataset = dataset_of(tmp_path, [(site.url(path), path) for path in pages], site.resolve, shards=2)
        dataset = replace(dataset, source="", images=replace(dataset.images, processes=1))
        assert "retries" not in run(dataset, "")
        assert last_retry(run(dataset, "failed")) == (1, 0, "1 http_5xx")
        site.pages |= pages
        site.seen.clear()
        told = run(dataset, ["http_5xx", "dns_failure"], {"dagster/partition": "00000"})
        assert site.seen == ["/1.jpg"]
    assert last_retry(told) == (1, 1, "1 http_5xx")
    assert told["rows_out"].value == 2
    manifest = read_manifest(Store.of(dataset), IMAGE_SHARDS, "00000")
    assert manifest is not None
    assert manifest.counts.reasons == {}


def last_retry(metadata):  # type: ignore[no-untyped-def]
    """Return the retried rows, recovered rows and reasons of the last retry."""
    last = metadata["retries"].records[-1].data
    return last["retried"], last["recovered"], last["reasons"]


BOTH = {"dagster/asset_partition_range_start": "00000", "dagster/asset_partition_range_end": "00001"}


def run(dataset, retry, tags=BOTH):  # type: ignore[no-untyped-def]
    """Run the shards in the tags, by default both, and return the metadata of the first."""
    dedup = dg.AssetSpec([dataset.name, DEDUP_PARQUET], partitions_def=partitions_def(dataset, DEDUP_PARQUET))
    with dg.DagsterInstance.ephemeral() as instance:
        dg.materialize(
            [image_shards_asset(dataset), dedup],
            selection=[dg.AssetKey([dataset.name, IMAGE_SHARDS])],
            resources={
                "tiny_image_shards_io_manager": ImageShardsIOManager(dataset),
                "io_manager": DedupParquetIOManager(dataset),
                "tiny_crawl_site": CrawlSiteResource(),
                "tiny_spark": SparkResource(master="local[1]", driver_memory="512m"),
            },
            tags=tags,
            run_config={"ops": {"tiny__image_shards": {"config": {"retry": retry}}}},
            instance=instance,
        )
        records = instance.fetch_materializations(dg.AssetKey([dataset.name, IMAGE_SHARDS]), limit=10).records
    found = {record.partition_key: record.asset_materialization.metadata for record in records}  # type: ignore[union-attr]
    return found["00000"]
