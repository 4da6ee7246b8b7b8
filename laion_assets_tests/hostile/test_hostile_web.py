"""A pipeline in a network namespace with a hostile DNS server and hostile hosts: counts, limits, no private requests.

Every address in the namespace responds, also loopback, private networks and metadata services. They would respond to a
forbidden request with a secret, and nftables records it. The pipeline runs once with more than half of the rows at
healthy hosts and with detection of local failures, and once with hostile hosts only and without detection.
"""

import ipaddress
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.orchestration.checks.row_counts import verify
from laion_assets.reasons import Reason
from laion_assets.stages.registry import find_stage
from laion_assets.store.manifest import Manifest, read_manifest
from laion_assets.store.store import Store
from laion_assets_tests.conftest import TOP
from laion_assets_tests.hostile.crawl import ABSURD_URLS, DUPLICATES, HostileCrawl, hostile_crawl
from laion_assets_tests.hostile.dns_server import PUBLIC, public_address
from laion_assets_tests.hostile.inside import LIMIT_S, METADATA, STAGES
from laion_assets_tests.hostile.namespace import NAME_SERVER, command_inside
from laion_assets_tests.hostile.stage import (
    DOWNLOADS,
    HEALTHY,
    HOSTILE,
    MAX_BYTES_IN_FLIGHT,
    MAX_FILE_BYTES,
    hostile_dataset,
)

pytestmark = [pytest.mark.hostile, pytest.mark.timeout(1_200)]

PROCESS_MIB = 320
"""Memory limit of a Python process: 160 MiB for imports, and as much for bodies and one image. The sample's has 210."""
TREE_MIB = {"raw_csv": 300, "dedup_parquet": 1_500, "image_shards": 800}
"""Memory limit of all processes of a stage: two workers with a decoder each; a JVM of 1 GiB with Python workers."""
DISK_BYTES = {
    "raw_csv": DOWNLOADS * MAX_FILE_BYTES + 10_000_000,
    "dedup_parquet": 30_000_000,
    "image_shards": 30_000_000,
}
"""Disk limits for the store, staging, temporary files and Dagster. A refused download is deleted."""
REACHED_BY_REDIRECT = ("dns-rebind-99.test",)


@pytest.fixture(scope="module", params=[HEALTHY, HOSTILE])
def hosts(request: pytest.FixtureRequest) -> str:
    """Whether there are healthy hosts in addition to the hostile ones."""
    return str(request.param)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, hosts: str) -> Path:
    """Run all stages and return their folder."""
    folder = tmp_path_factory.mktemp("hostile")
    for name in ("temporary", "dagster_home"):
        (folder / name).mkdir()
    shutil.copy(TOP / "dagster_home" / "dagster.yaml", folder / "dagster_home")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LAION_", "DAGSTER_"))}
    environment = {**kept, "DAGSTER_HOME": str(folder / "dagster_home"), "PYTHONPATH": str(TOP)}
    command = [sys.executable, "-m", "laion_assets_tests.hostile.inside", str(folder), hosts]
    subprocess.run(command_inside(command), env=environment, check=True, timeout=3 * LIMIT_S + 60)
    return folder


@pytest.fixture(scope="module")
def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    print({stage: {**found[stage], "asked": len(found[stage]["asked"])} for stage in STAGES if stage in found})
    return found


@pytest.fixture(scope="module")
def crawl(hosts: str) -> HostileCrawl:
    return hostile_crawl(hosts == HEALTHY)


@pytest.fixture(scope="module")
def hostile(folder: Path, hosts: str) -> Dataset:
    return hostile_dataset(folder, hosts == HEALTHY)


def manifests(hostile: Dataset, asset: str) -> list[Manifest]:
    store = Store.of(hostile)
    keys = [
        find_stage(asset).handle.key(hostile.layout, number)
        for number in find_stage(asset).handle.numbers(hostile.layout)
    ]
    found = [read_manifest(store, asset, key) for key in keys]
    assert None not in found
    return [manifest for manifest in found if manifest is not None]


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_stays_within_its_limits(folder: Path, report: dict[str, Any], stage: str) -> None:
    used = report[stage]
    assert used["status"] == 0, (folder / f"{stage}.log").read_text()[-3_000:]
    assert used["seconds"] < LIMIT_S
    assert used["process_mib"] < PROCESS_MIB + MAX_BYTES_IN_FLIGHT / 2**20
    assert used["tree_mib"] < TREE_MIB[stage]
    assert used["disk"] < DISK_BYTES[stage]


def test_the_network_watch_detects_forbidden_connections(report: dict[str, Any]) -> None:
    assert {(METADATA, "tcp", 80), ("127.0.0.1", "tcp", 80), ("::1", "tcp", 80), ("10.0.0.1", "tcp", 22)} <= {
        tuple(each) for each in report["control"]
    }


def allowed(stage: str, crawl: HostileCrawl) -> Callable[[str, str, int], bool]:
    hosts = {urlsplit(url).hostname or "" for url in crawl.rows} if stage == "image_shards" else {"crawl.test"}
    addresses = {public_address(host) for host in (*hosts, *REACHED_BY_REDIRECT)}

    def check(address: str, protocol: str, port: int) -> bool:
        if address == NAME_SERVER:
            return port == 53
        if stage == "dedup_parquet":  # fetches nothing; Spark's processes speak over loopback
            return ipaddress.ip_address(address).is_loopback and protocol == "tcp" and port > 1_023
        return address in addresses and protocol == "tcp" and port in (80, 443)

    return check


@pytest.mark.parametrize("stage", STAGES)
def test_only_the_name_server_and_public_hosts_are_contacted(
    report: dict[str, Any], crawl: HostileCrawl, stage: str
) -> None:
    check = allowed(stage, crawl)
    asked = [tuple(each) for each in report[stage]["asked"]]
    assert [each for each in asked if not check(*each)] == []
    if stage != "dedup_parquet":
        assert any(ipaddress.ip_address(address) in PUBLIC for address, *_ in asked if ":" not in address)


def test_no_content_of_private_hosts_is_stored(hostile: Dataset) -> None:
    for path in Path(hostile.root).rglob("*"):
        assert not path.is_file() or b"SECRET|" not in path.read_bytes(), path


def test_every_source_file_is_fetched_or_has_a_reason(hostile: Dataset, crawl: HostileCrawl) -> None:
    (manifest,) = manifests(hostile, "raw_csv")
    assert manifest.counts.rows_in == len(crawl.files) + len(crawl.pages)
    assert {entry.path for entry in manifest.files} == {f"raw_csv/{name}" for name in crawl.files}
    assert sum(manifest.counts.reasons.values()) == len(crawl.pages)
    assert set(manifest.counts.reasons) == {
        "bad_encoding", "bad_redirect", "bad_response", "blocked_address", "short_body", "too_large",
        "too_many_redirects", "unsupported_scheme", "deleted_404",
    }  # fmt: skip


def test_every_row_is_kept_or_has_a_reason(hostile: Dataset, crawl: HostileCrawl) -> None:
    reasons: Counter[str] = Counter()
    kept: list[str] = []
    for number, manifest in enumerate(manifests(hostile, "dedup_parquet")):
        reasons.update(manifest.counts.reasons)
        path = Path(hostile.root) / hostile.name / "dedup_parquet" / f"{number:02d}.parquet"
        kept += pq.read_table(path, columns=["URL"]).column("URL").to_pylist()
    assert reasons["duplicate"] == DUPLICATES
    assert set(crawl.rows) <= set(kept)
    absurd = [url for url in kept if url not in crawl.rows]
    assert len(kept) == len(set(kept))
    assert set(absurd) <= set(ABSURD_URLS)


def test_every_row_of_the_shards_has_an_image_or_an_expected_reason(hostile: Dataset, crawl: HostileCrawl) -> None:
    found: dict[str, Reason] = {}
    for manifest in manifests(hostile, "image_shards"):
        table = pq.read_table(Path(hostile.root) / hostile.name / "image_shards" / f"{manifest.key}.parquet")
        rows = dict(zip(table["url"].to_pylist(), map(Reason, table["reason"].to_pylist()), strict=True))
        assert Counter(rows.values()) == Counter(
            {Reason(reason): count for reason, count in manifest.counts.reasons.items()}
            | {Reason.SUCCESS: manifest.counts.rows_out}
        )
        found |= rows
    wrong = {(kind, found[url].value) for url, (kind, reasons) in crawl.rows.items() if found[url] not in reasons}
    assert wrong == set()
    others = {found[url] for url in found.keys() - crawl.rows.keys()}
    assert others <= {Reason.UNSUPPORTED_SCHEME, Reason.INVALID_URL}


@pytest.mark.parametrize("stage", STAGES)
def test_the_row_count_invariants_hold(hostile: Dataset, stage: str) -> None:
    numbers = tuple(find_stage(stage).handle.numbers(hostile.layout))
    assert verify(hostile, stage, numbers, lambda: pytest.fail("no model is needed")) == {}
