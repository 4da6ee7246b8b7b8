"""Backfill the whole rehearsal, follow it through GraphQL, and measure each stage and its runs."""

import time
from collections.abc import Callable
from typing import Any

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.stages.registry import pipeline_names
from laion_assets_tests.end_to_end.dagster_ui import BACKFILL, DagsterPage

PIPELINE = pipeline_names(SAMPLE)

LIMIT_S = 3_600
_EVERY_S = 2.0
_LOG_EVERY_S = 30.0
_PROGRESS = """query Progress($keys: [AssetKeyInput!]!) { assetNodes(assetKeys: $keys) {
  assetKey { path } partitionStats { numMaterialized numPartitions } } }"""
_RUNS = """query Runs($backfill: String!) { runsOrError(filter: {tags: [{key: "dagster/backfill", value: $backfill}]}) {
  ... on Runs { results { runId status creationTime startTime endTime assetSelection { path } } } } }"""


def backfill_all(page: DagsterPage, dataset: str, log: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Backfill every partition of the five stages. Returns seconds, runs and their creation time by stage.

    Raises RuntimeError unless the backfill ends complete, TimeoutError after LIMIT_S.
    """
    backfill = page.backfill(dataset, list(PIPELINE))
    started = logged = time.monotonic()
    while (status := _status(page, backfill)) in ("REQUESTED", "CANCELING", "FAILING"):
        if time.monotonic() - started > LIMIT_S:
            raise TimeoutError(f"backfill {backfill} is {status} after {LIMIT_S} s")
        if time.monotonic() - logged > _LOG_EVERY_S:
            logged = time.monotonic()
            log(f"{logged - started:.0f} s: {progress(page, dataset)}")
        time.sleep(_EVERY_S)
    if status != "COMPLETED_SUCCESS":
        raise RuntimeError(f"backfill {backfill} ended as {status}: {progress(page, dataset)}")
    return _stages(dataset, page.graphql(_RUNS, backfill=backfill)["runsOrError"]["results"])


def progress(page: DagsterPage, dataset: str) -> str:
    """Format the materialized and total partitions by stage."""
    nodes = page.graphql(_PROGRESS, keys=[{"path": [dataset, stage]} for stage in PIPELINE])["assetNodes"]
    counts = {node["assetKey"]["path"][-1]: node["partitionStats"] for node in nodes}
    return ", ".join(
        f"{stage} {counts[stage]['numMaterialized']:,}/{counts[stage]['numPartitions']:,}"
        for stage in PIPELINE
        if counts[stage] is not None
    )


def _status(page: DagsterPage, backfill: str) -> str:
    return str(page.graphql(BACKFILL, id=backfill)["partitionBackfillOrError"]["status"])


def _stages(dataset: str, runs: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the figures by stage. `seconds` is from the creation of its first run to the end of its last one."""
    found = {}
    for stage in PIPELINE:
        own = [run for run in runs if [dataset, stage] in [key["path"] for key in run["assetSelection"]]]
        created = [run["creationTime"] for run in own]
        if own:
            found[stage] = {
                "runs": len(own),
                "seconds": round(max(run["endTime"] for run in own) - min(created), 1),
                "created_s": round(max(created) - min(created), 1),
                "busy_s": round(sum(run["endTime"] - run["startTime"] for run in own), 1),
            }
    return found
