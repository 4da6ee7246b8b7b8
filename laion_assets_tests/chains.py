"""The distribution of tests over processes: files that share an expensive fixture run in the same process.

The groups of xdist do not work with pytest 9.2: it adds their names to node ids, which pytest no longer reads.
"""

import pytest
from xdist.scheduler import LoadScopeScheduling

CHAINS = {
    "demo": (
        "end_to_end/test_demo",
        "end_to_end/test_invariants",
        "end_to_end/test_readme",
        "end_to_end/test_export",
        "end_to_end/test_subset",
        "end_to_end/test_api_page",
        "end_to_end/test_web_server",
        "end_to_end/test_partition_launches",
        "end_to_end/test_interrupts",
        "end_to_end/test_deploy",
        "end_to_end/test_browser",
        "server/page/test_page",
        "server/page/test_results",
        "server/page/test_access",
        "server/page/test_errors",
        "server/test_clip_front",
        "bench/test_search",
    ),
    "spark": (
        "stages/dedup_parquet/test_dedup",
        "stages/dedup_parquet/test_dedup_cluster",
        "stages/published_parquet/test_published",
        "stages/image_shards/shard/test_spark_tasks",
        "stages/image_shards/img2dataset/test_workers",
        "stages/clip_embeddings/test_build_files_in_spark",
        "orchestration/test_partition_names",
        "stages/test_kept_rows",
        "end_to_end/test_own_data",
        "end_to_end/test_kept_columns",
        "test_failures",
    ),
    "object_store": (
        "store/test_transaction",
        "stages/raw_csv/test_download",
        "store/test_own_outputs",
        "export/test_object_store",
        "cli/test_init_object_store",
        "stages/image_shards/shard/test_storage_faults",
        "stages/image_shards/adoption/test_adopt_shards",
    ),
}
"""Session fixtures that take seconds or minutes, the slowest first, and the files that use them."""
LONG = ("end_to_end/test_laion400m", "test_definitions")
"""More files that start early, because they take long."""


def chain_of(nodeid: str) -> str:
    """Return the chain of a test, or its file if it is in none."""
    file = nodeid.partition("::")[0].partition("/")[2].removesuffix(".py")
    return next((name for name, files in CHAINS.items() if file in files), file)


def sort_items(items: list[pytest.Item]) -> list[pytest.Item]:
    """Sort the tests, longest chains first. Raises UsageError for an expensive fixture used outside of its chain."""
    for item in items:
        for name in CHAINS:
            if name in getattr(item, "fixturenames", ()) and chain_of(item.nodeid) not in CHAINS:
                raise pytest.UsageError(f"{item.nodeid} uses the fixture {name}. Add its file to {__name__}.CHAINS.")
    first = (*CHAINS, *LONG)
    places = {item: first.index(chain) if (chain := chain_of(item.nodeid)) in first else len(first) for item in items}
    return sorted(items, key=places.__getitem__)


class ChainScheduling(LoadScopeScheduling):
    """Run each chain, and each other file, in one process, in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        return chain_of(nodeid)
