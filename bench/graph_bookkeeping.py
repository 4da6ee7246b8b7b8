"""The cost of Dagster's bookkeeping: one run over all shards that only reports each of them.

The run is a separate process. Its asset has the key, partitions, IO manager and reports of `image_shards`, and only
reports existing manifests. The whole run is counted: planned events, one materialization with metadata and data version
per partition, and the IO manager's verification.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from graph_storages import Storage


def ms_per_partition(storage: Storage) -> float:
    """Return the run's milliseconds per partition. Raises CalledProcessError."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__)), storage.dataset.name],
        env=storage.environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    result = json.loads(done.stdout.splitlines()[-1])
    return float(result["seconds"]) / int(result["partitions"]) * 1e3


def main() -> None:
    import dagster as dg

    from laion_assets.dataset.built_in import BUILT_IN
    from laion_assets.dataset.settings.resolution import resolve_settings
    from laion_assets.orchestration.declaration import asset_key
    from laion_assets.orchestration.partitions import partitions_def
    from laion_assets.orchestration.reporting import Reporting, reported_output
    from laion_assets.stages.image_shards.handle import IMAGE_SHARDS, ImageShards
    from laion_assets.stages.image_shards.io_manager import ImageShardsIOManager

    dataset = resolve_settings(BUILT_IN[sys.argv[1]])
    shards = ImageShards.of(dataset)
    manifests = list(shards.manifests())

    @dg.asset(
        key=asset_key(dataset, IMAGE_SHARDS),
        partitions_def=partitions_def(dataset, IMAGE_SHARDS),
        backfill_policy=dg.BackfillPolicy.single_run(),
        io_manager_key="io",
    )
    def image_shards(context: dg.AssetExecutionContext) -> dg.Output[ImageShards]:
        with Reporting(context, ImageShardsIOManager(dataset), shards.partitions) as report:
            for number, manifest in zip(shards.partitions, manifests, strict=True):
                report(number, manifest)
        return reported_output(shards)

    layout = dataset.layout
    tags = {
        "dagster/asset_partition_range_start": layout.shard_key(shards.partitions[0]),
        "dagster/asset_partition_range_end": layout.shard_key(shards.partitions[-1]),
    }
    with dg.DagsterInstance.get() as instance:
        started = time.monotonic()
        result = dg.materialize(
            [image_shards], resources={"io": ImageShardsIOManager(dataset)}, tags=tags, instance=instance
        )
        seconds = time.monotonic() - started
        logs = instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    assert result.success
    reported = {log.get_dagster_event().partition for log in logs}
    assert len(logs) == len(reported) == len(shards.partitions), f"{len(logs):,} events of {len(reported):,} partitions"
    print(json.dumps({"seconds": seconds, "partitions": len(reported)}))


if __name__ == "__main__":
    main()
