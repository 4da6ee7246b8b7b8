"""Every way in which Dagster names the partitions of a run selects exactly these partitions, for every asset.

In process, over a dataset of sixty rows. Through the web server and the daemon: end_to_end/test_partition_launches.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.definitions import build_definitions
from laion_assets.errors import LayoutError
from laion_assets.orchestration.partitions import (
    partition_keys,
    partition_numbers,
    partitions_def,
    partitions_of_run,
)
from laion_assets.orchestration.resources.spark import SparkResource
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.registry import STAGES
from laion_assets.store.manifest import manifest_path
from laion_assets.store.store import Store
from laion_assets_tests.tiny_dataset import served_dataset

PARTITIONED = [stage.name for stage in STAGES if stage.is_partitioned]

FIRST, LAST = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
NAMED = {
    "one key": lambda keys: ({"dagster/partition": keys[1]}, keys[1:2]),
    "a range of one": lambda keys: ({FIRST: keys[0], LAST: keys[0]}, keys[:1]),
    "a range of some": lambda keys: ({FIRST: keys[0], LAST: keys[1]}, keys[:2]),
    "all": lambda keys: ({FIRST: keys[0], LAST: keys[-1]}, keys),
}
"""The tags of a run by the way it names its partitions, and the keys that these are."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dataset]:
    """A dataset of sixty rows, without any partition."""
    with served_dataset(tmp_path_factory.mktemp("tiny")) as dataset:
        yield dataset


@pytest.fixture(scope="module")
def definitions(tiny: Dataset, spark: Any) -> Iterator[dg.Definitions]:
    """The dataset's definitions, with one Spark session for all runs, and every asset materialized once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SparkResource, "session", lambda self: spark)
        built = build_definitions(tiny)
        for asset in ("raw_csv", *PARTITIONED):
            keys = partition_keys(tiny, asset) if asset in PARTITIONED else [""]
            assert run(built, tiny, asset, {FIRST: keys[0], LAST: keys[-1]} if keys[0] else {}).result.success
        yield built


@dataclass(frozen=True)
class Ran:
    """A run, and the partitions that it reported to Dagster, in order."""

    result: dg.ExecuteInProcessResult
    reported: list[str]

    @property
    def why(self) -> str:
        """The errors of its steps."""
        return "\n".join(
            str(event.step_failure_data.error) for event in self.result.all_events if event.is_step_failure
        )


def run(definitions: dg.Definitions, dataset: Dataset, asset: str, tags: dict[str, str]) -> Ran:
    key = dg.AssetKey([dataset.name, asset])
    with dg.DagsterInstance.ephemeral() as instance:
        result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance,
            asset_selection=[key],
            tags=tags,
            run_config={"loggers": {"console": {}}},
            raise_on_error=False,
        )
        records = instance.fetch_materializations(key, limit=1_000).records
    keys = [record.partition_key for record in records]
    partitions = [key for key in keys if key is not None]  # without the totals over all partitions
    return Ran(result, sorted(map(str, partitions or keys)))


def manifests(dataset: Dataset, asset: str) -> dict[str, Path]:
    """The manifests of an asset by partition key, committed or not."""
    store = Store.of(dataset)
    paths = {key: store.local_path(manifest_path(asset, key)) for key in partition_keys(dataset, asset)}
    return {key: path for key, path in paths.items() if path is not None}


@pytest.mark.parametrize("named", NAMED)
@pytest.mark.parametrize("asset", PARTITIONED)
def test_a_run_builds_reports_and_checks_its_partitions(
    definitions: dg.Definitions, tiny: Dataset, asset: str, named: str
) -> None:
    tags, keys = NAMED[named](partition_keys(tiny, asset))
    paths = manifests(tiny, asset)
    before = {key: path.read_bytes() for key, path in paths.items()}
    for path in paths.values():
        path.unlink()
    ran = run(definitions, tiny, asset, tags)
    made = [key for key, path in paths.items() if path.exists()]
    for key in before.keys() - made:
        paths[key].write_bytes(before[key])
    assert ran.result.success, ran.why
    assert made == ran.reported == keys
    checked = {check.check_name: check for check in ran.result.get_asset_check_evaluations()}
    assert all(check.passed for check in checked.values()), checked
    assert checked["row_counts"].metadata["partitions_verified"].value == len(keys)
    assert checked["up_to_date"].metadata["partitions"].value == f"{len(keys)} (of this run)"


@pytest.mark.parametrize("asset", ["raw_csv", "knn_indices", "dataset_statistics"])
def test_an_asset_without_partitions_is_built_in_a_run_that_names_one(
    definitions: dg.Definitions, tiny: Dataset, asset: str
) -> None:
    """Dagster puts it into one run with a partitioned asset where both are selected."""
    for tags in ({}, {"dagster/partition": "00"}):
        ran = run(definitions, tiny, asset, tags)
        assert ran.result.success, ran.why
        assert ran.reported == ["None"]


@pytest.mark.parametrize("asset", PARTITIONED)
@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({}, "names no partition of tiny|for a non-partitioned run"),
        ({"dagster/partition": "99999"}, "99999"),
        ({"dagster/partition": "all"}, "all"),
    ],
)
def test_a_run_that_names_no_partition_of_the_asset_fails(
    definitions: dg.Definitions, tiny: Dataset, asset: str, tags: dict[str, str], message: str
) -> None:
    before = {key: path.read_bytes() for key, path in manifests(tiny, asset).items()}
    ran = run(definitions, tiny, asset, tags)
    assert not ran.result.success
    assert re.search(message, ran.why)
    assert {key: path.read_bytes() for key, path in manifests(tiny, asset).items()} == before


@pytest.mark.parametrize("asset", PARTITIONED)
@pytest.mark.parametrize("named", NAMED)
def test_the_partitions_of_a_run_come_in_order(dataset: Dataset, asset: str, named: str) -> None:
    tags, keys = NAMED[named](partition_keys(dataset, asset))
    found = partitions_of_run(dataset, asset, dg.DagsterRun("job", tags=tags))
    assert found == partition_numbers(dataset, asset, reversed(keys)) == tuple(map(int, keys))


@pytest.mark.parametrize("asset", PARTITIONED)
def test_a_run_may_name_a_subset_with_holes(dataset: Dataset, asset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster stores subsets of other kinds of partitions on the run itself; ours come as tags today."""
    keys = partition_keys(dataset, asset)[::2]
    definition = partitions_def(dataset, asset)
    assert definition is not None
    subset = definition.subset_with_partition_keys(keys)
    monkeypatch.setattr(dg.DagsterRun, "get_resolved_partitions_subset_for_events", lambda self, of: subset)
    assert partitions_of_run(dataset, asset, dg.DagsterRun("job")) == tuple(map(int, keys))


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({FIRST: "00004", LAST: "00003"}, "first key must come first"),
        ({FIRST: "00003"}, "without the other"),
        ({FIRST: "00003", LAST: "00024"}, "00024"),
        ({"dagster/partition": "3"}, "Unknown partition '3' of sample/image_shards. Its partitions are 00000 to 00023"),
    ],
)
def test_tags_that_name_no_partitions_are_refused(dataset: Dataset, tags: dict[str, str], message: str) -> None:
    with pytest.raises(LayoutError, match=re.escape(message)):
        partitions_of_run(dataset, IMAGE_SHARDS, dg.DagsterRun("job", tags=tags))
