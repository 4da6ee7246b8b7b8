"""The latency of the Dagster UI's own GraphQL queries when all partitions are materialized."""

import statistics
import time

from graph_storages import Storage

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.registry import pipeline_names

PIPELINE = pipeline_names(SAMPLE)

_PARTITIONS_PAGE = """query PartitionHealth($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) { ... on AssetNode {
  id partitionKeysByDimension { name type partitionKeys }
  assetPartitionStatuses { ... on DefaultPartitionStatuses {
    materializedPartitions materializingPartitions failedPartitions } } } } }"""
_GRAPH_POLL = """query GraphLive($keys: [AssetKeyInput!]!) {
  assetNodes(assetKeys: $keys, loadMaterializations: true) {
    id opNames repository { id } assetKey { path }
    assetMaterializations(limit: 1) { timestamp runId stepKey }
    assetObservations(limit: 1) { timestamp runId stepKey }
    assetChecksOrError { ... on AssetChecks { checks { name canExecuteIndividually
      executionForLatestMaterialization { id runId status timestamp stepKey evaluation { severity } } } } }
    partitionStats { numMaterialized numMaterializing numPartitions numFailed } }
  assetsLatestInfo(assetKeys: $keys) {
    id assetKey { path } unstartedRunIds inProgressRunIds latestRun { id status startTime endTime } } }"""
_AGAIN = 5


def page_latencies(storage: Storage) -> dict[str, float]:
    """Return the seconds of the Partitions page, on a newly started web server and then again, and of the graph poll.

    A storage with a separate web server restarts it first. `dagster dev` may respond from the cache of other queries.
    """
    key = {"path": [storage.dataset.name, IMAGE_SHARDS]}
    keys = [{"path": [storage.dataset.name, stage]} for stage in PIPELINE]
    storage.restart_web_server()

    def partitions() -> float:
        started = time.monotonic()
        node = storage.page.graphql(_PARTITIONS_PAGE, key=key)["assetNodeOrError"]
        took = time.monotonic() - started
        materialized = len(node["assetPartitionStatuses"]["materializedPartitions"])
        shards = storage.dataset.layout.shards
        assert materialized == shards, f"{materialized:,} of {shards:,} shards are materialized"
        return took

    def poll() -> float:
        started = time.monotonic()
        storage.page.graphql(_GRAPH_POLL, keys=keys)
        return time.monotonic() - started

    first = partitions()
    again = [partitions() for _ in range(_AGAIN)]
    polls = [poll() for _ in range(_AGAIN)]
    return {
        "partitions_page_s": first,
        "partitions_page_again_s": statistics.median(again),
        "graph_poll_s": statistics.median(polls),
    }
