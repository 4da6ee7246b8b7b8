"""How `make test` shares the tests out to two processes: files that share a costly fixture stay in one of them.

xdist's own groups are of no use with pytest 9.2: it puts their names into node ids that pytest no longer reads.
"""

import pytest
from xdist.scheduler import LoadScopeScheduling

CHAINS = {
    "demo": (
        "end_to_end/test_demo",
        "end_to_end/test_invariants",
        "end_to_end/test_readme",
        "end_to_end/test_subset",
        "end_to_end/test_api_page",
        "end_to_end/test_web_server",
        "end_to_end/test_partition_launches",
        "end_to_end/test_interrupts",
        "end_to_end/test_deploy",
        "end_to_end/test_browser",
    ),
    "spark": (
        "stages/dedup_parquet/test_dedup",
        "stages/dedup_parquet/test_dedup_cluster",
        "stages/published_parquet/test_published",
        "stages/image_shards/workers/test_spark_tasks",
        "stages/image_shards/img2dataset/test_workers",
        "orchestration/test_partition_names",
        "stages/test_kept_rows",
        "test_failures",
    ),
    "object_store": (
        "store/test_transaction",
        "stages/raw_csv/test_download",
        "store/test_own_outputs",
        "stages/image_shards/shard/test_storage_faults",
    ),
}
"""Fixtures of the whole session that cost seconds or minutes, the dearest first, and the files that use them."""
LONG = ("end_to_end/test_laion400m", "test_definitions")
"""Further files that are begun early, for they are long."""


def chain_of(nodeid: str) -> str:
    """The chain of a test, its own file where it is in none."""
    file = nodeid.partition("::")[0].partition("/")[2].removesuffix(".py")
    return next((name for name, files in CHAINS.items() if file in files), file)


def ordered(items: list[pytest.Item]) -> list[pytest.Item]:
    """The tests, the longest chains first. Raises UsageError for a costly fixture that is used outside of its chain."""
    for item in items:
        for name in CHAINS:
            if name in getattr(item, "fixturenames", ()) and chain_of(item.nodeid) not in CHAINS:
                raise pytest.UsageError(f"{item.nodeid} uses the fixture {name}: name its file in {__name__}.CHAINS.")
    first = (*CHAINS, *LONG)
    places = {item: first.index(chain) if (chain := chain_of(item.nodeid)) in first else len(first) for item in items}
    return sorted(items, key=places.__getitem__)


class ChainScheduling(LoadScopeScheduling):
    """Whole chains, and whole files of the others, to one process each, in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        return chain_of(nodeid)
