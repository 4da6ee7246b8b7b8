"""A retry adds images to a complete shard, fetches nothing else, and never loses an image."""

import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from laion_assets.dataset.identity import compute_uid
from laion_assets.errors import IntegrityError, InvariantError, LocalFailureError, ShardError
from laion_assets.search.shard_images import shard_contact_sheet
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS, ClipEmbeddings
from laion_assets.stages.image_shards.advice import advise
from laion_assets.stages.image_shards.build import build_image_shards
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.image_shards.outcome_lookup import find_outcome
from laion_assets.stages.image_shards.retry_reasons import retry_reasons
from laion_assets.stages.image_shards.shard import merge as shard_merge
from laion_assets.stages.image_shards.shard import retry as shard_retry
from laion_assets.stages.image_shards.shard.task import ShardTask
from laion_assets.stages.status import DatasetStatus, settings_digest
from laion_assets.store.manifest import Counts, disagreement, read_manifest
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction, recover
from laion_assets_tests.stages.image_shards.images import jpeg
from laion_assets_tests.stages.image_shards.shards import IMAGES, committed_files, dataset_of
from laion_assets_tests.stages.image_shards.site import answer, raw, running

FAILED = retry_reasons("failed")
ROWS = [(f"http://photos.test/{n}.jpg", f"caption {n} é") for n in range(12)]
GOOD = {f"/{n}.jpg": answer(jpeg(120 + 7 * n, 200 - 5 * n, n)) for n in range(12)}
BAD = {
    "http_5xx": answer(b"", "503 Service Unavailable"),
    "short_body": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12"),
    "connection_reset": raw(b""),
    "http_404": answer(b"", "404 Not Found"),
    "opted_out": answer(jpeg(), "200 OK", "X-Robots-Tag: noai"),
    "not_an_image": answer(b"<html>no"),
}


@pytest.fixture(scope="module")
def site():
    with running(dict(GOOD)) as running_site:
        yield running_site


@pytest.fixture
def broken(site, tmp_path):
    """A shard whose rows 1, 4, 5, 7 and 10 failed, and a site that works again."""
    reasons = {1: "http_5xx", 4: "short_body", 5: "http_404", 7: "opted_out", 10: "http_5xx"}
    return build_with(site, tmp_path / "broken", reasons)


def build_with(site, root, reasons, rows=ROWS, images=IMAGES):
    dataset = dataset_of(root, rows, site.resolve, images=images)
    site.pages = GOOD | {f"/{n}.jpg": BAD[reason] for n, reason in reasons.items()}
    outcome = ShardTask(dataset, 0).run()
    assert sum(outcome.reasons.values()) == len(reasons)
    site.pages = dict(GOOD)
    site.seen.clear()
    return dataset


def manifest_of(dataset):
    return read_manifest(Store.of(dataset), IMAGE_SHARDS, "00000")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.integers(0, 11), st.sampled_from(["http_5xx", "short_body", "connection_reset"])))
def test_a_retried_shard_has_the_bytes_of_a_shard_that_never_failed(site, tmp_path_factory, reasons):
    root = tmp_path_factory.mktemp("retry")
    dataset, never = build_with(site, root / "a", reasons), dataset_of(root / "b", ROWS, site.resolve)
    ShardTask(dataset, 0, retry=FAILED).run()
    ShardTask(never, 0).run()
    assert committed_files(dataset) == committed_files(never)
    assert manifest_of(dataset).content == manifest_of(never).content


@pytest.mark.parametrize("encode_format", ["jpg", "png", "webp"])
def test_a_shard_of_any_format_can_be_retried_and_shown(site, tmp_path, encode_format):
    images = replace(IMAGES, encode_format=encode_format, encode_quality=6 if encode_format == "png" else 95)
    reasons = {0: "http_5xx", 6: "short_body", 11: "http_5xx"}
    dataset = build_with(site, tmp_path / "a", reasons, images=images)
    never = dataset_of(tmp_path / "b", ROWS, site.resolve, images=images)
    assert ShardTask(dataset, 0, retry=FAILED).run().recovered == 3
    ShardTask(never, 0).run()
    assert committed_files(dataset) == committed_files(never)
    with Image.open(io.BytesIO(shard_contact_sheet(Store.of(dataset), "image_shards/00000.tar", tiles=12))) as sheet:
        assert sheet.width == 12 * sheet.height, "a square for each image"


def test_only_the_requested_rows_are_fetched_and_counted(broken, site):
    outcome = ShardTask(broken, 0, retry=FAILED).run()
    assert sorted(site.seen) == ["/1.jpg", "/10.jpg", "/4.jpg"]
    assert (outcome.retried, outcome.recovered, outcome.skipped) == (3, 3, False)
    assert (outcome.successes, outcome.reasons) == (10, {"http_404": 1, "opted_out": 1})
    site.seen.clear()
    assert ShardTask(broken, 0, retry=FAILED).run().skipped
    assert ShardTask(broken, 0, retry=("http_404",)).run().recovered == 1
    assert site.seen == ["/5.jpg"]


def test_the_outcome_of_a_row_is_found_by_its_place_and_uid(broken):
    def outcome(row, uid=None):
        key = broken.layout.sample_key(0, row)
        return find_outcome(broken, Store.of(broken), 0, key, uid or compute_uid(*ROWS[row]))

    failed, good = outcome(5), outcome(6)
    assert (failed["status"], failed["reason"]) == ("failed_to_download", "http_404")
    assert "404" in failed["error_message"]
    assert (good["status"], good["original_width"], good["original_height"]) == ("success", 120 + 7 * 6, 200 - 5 * 6)
    assert outcome(5, "0" * 32) is None, "the shard was built from other rows"
    other = dataset_of(broken.root + "/other", ROWS, {})
    assert find_outcome(other, Store.of(other), 0, "000000005", compute_uid(*ROWS[5])) is None, "not committed"


def test_a_blocked_address_is_retried_once_its_network_is_allowed(site, tmp_path):
    site.pages = dict(GOOD)
    rows = [*ROWS[:4], *((f"http://127.0.0.1:{site.port}/{n}.jpg", f"caption {n}") for n in range(4, 8))]
    fetch = replace(IMAGES.fetch, allowed_ports=(80, 443, site.port))
    dataset = dataset_of(tmp_path, rows, site.resolve, images=replace(IMAGES, fetch=fetch))
    assert ShardTask(dataset, 0).run().reasons == {"blocked_address": 4}
    site.seen.clear()
    assert ShardTask(dataset, 0, retry=FAILED).run().skipped
    assert advise(dataset, Counter(blocked_address=4)) == (
        f'To allow a host of your own network, set resolve = {{ "127.0.0.1" = "127.0.0.1:{site.port}" }}, or its '
        "network with "
        f'allow_networks = ["127.0.0.1/32"], in [{dataset.name}] of laion-assets.toml. Then retry these rows: '
        f"laion-assets materialize --dataset {dataset.name} image_shards --retry failed."
    )
    subset = advise(dataset.subset(range(1)), Counter(blocked_address=4))
    assert "in [tiny] of" in subset, "the command line and the settings file know the whole dataset"
    assert "--dataset tiny image_shards" in subset
    allowed = replace(dataset, allow_networks=("127.0.0.1/32",))
    assert DatasetStatus(allowed).state(IMAGE_SHARDS, 0).is_complete, "the setting changes no bytes"
    assert "Retry these rows: laion-assets materialize --dataset tiny image_shards --retry newly_allowed" in advise(
        allowed, Counter(blocked_address=4)
    )
    assert ShardTask(allowed, 0, retry=FAILED).run().recovered == 4
    assert sorted(site.seen) == ["/4.jpg", "/5.jpg", "/6.jpg", "/7.jpg"]
    assert ShardTask(allowed, 0, retry=FAILED).run().skipped


@pytest.mark.parametrize(("good", "is_logged"), [(2, True), (0, False)])
def test_a_run_that_keeps_images_logs_how_to_allow_refused_hosts(site, tmp_path, good, is_logged):
    """A run that keeps none fails with the same advice."""
    site.pages, logged = dict(GOOD), []
    rows = [*ROWS[:good], *((f"http://127.0.0.1:{site.port}/{n}.jpg", f"caption {n}") for n in range(4, 8))]
    images = replace(IMAGES, processes=1, fetch=replace(IMAGES.fetch, allowed_ports=(80, 443, site.port)))
    build_image_shards(dataset_of(tmp_path, rows, site.resolve, images=images), [0], logged.append)
    assert any("To allow a host of your own network" in line for line in logged) is is_logged


def test_rows_that_stay_blocked_are_not_retried_each_time(site, tmp_path):
    site.pages = dict(GOOD)
    rows = [*ROWS[:2], (f"http://10.0.0.1:{site.port}/1.jpg", "private")]
    fetch = replace(IMAGES.fetch, allowed_ports=(80, 443, site.port))
    dataset = dataset_of(tmp_path, rows, site.resolve, images=replace(IMAGES, fetch=fetch))
    ShardTask(dataset, 0).run()
    other = replace(dataset, allow_networks=("127.0.0.0/8",))
    outcome = ShardTask(other, 0, retry=FAILED).run()
    assert (outcome.retried, outcome.recovered) == (1, 0)
    assert ShardTask(other, 0, retry=FAILED).run().skipped


def test_the_manifest_keeps_its_digests_and_has_the_retry_history(broken, site):
    before = manifest_of(broken)
    ShardTask(broken, 0, retry=("short_body",)).run()
    site.pages["/1.jpg"] = BAD["http_404"]
    ShardTask(broken, 0, retry=("http_5xx",)).run()
    after = manifest_of(broken)
    assert (after.settings, after.inputs) == (before.settings, before.inputs)
    history = after.details["retries"]
    assert [(one["reasons"], one["retried"], one["recovered"]) for one in history] == [
        ({"short_body": 1}, 1, 1), ({"http_5xx": 2}, 2, 1)
    ]  # fmt: skip
    assert all(one["at"] and one["requests"] == one["retried"] for one in history)
    assert after.counts == Counts(12, 9, {"http_404": 2, "opted_out": 1})
    assert after.details["statuses"] == {"failed_to_download": 3, "success": 9}
    stats = json.loads((Store.of(broken).local_root / "image_shards/00000_stats.json").read_text())
    assert (stats["count"], stats["successes"], stats["failed_to_download"]) == (12, 9, 3)
    assert (stats["reasons"], stats["retries"]) == (after.counts.reasons, history)
    assert sum(stats["status_dict"].values()) == 12
    assert disagreement(Store.of(broken), after, hashes=True) is None


def test_a_retry_without_success_keeps_the_files_and_is_recorded(broken, site):
    site.pages |= {"/1.jpg": BAD["http_5xx"], "/10.jpg": BAD["http_5xx"]}
    folder = Store.of(broken).local_root / IMAGE_SHARDS
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    outcome = ShardTask(broken, 0, retry=("http_5xx",)).run()
    assert (outcome.retried, outcome.recovered) == (2, 0)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert manifest_of(broken).details["retries"][0]["recovered"] == 0
    assert disagreement(Store.of(broken), manifest_of(broken), hashes=True) is None


def test_downstream_partitions_are_stale_after_a_retry(broken):
    freshness = DatasetStatus(broken)
    with open_transaction(Store.of(broken), CLIP_EMBEDDINGS, "0") as transaction:
        transaction.stage(ClipEmbeddings.path(broken.layout, 0, "img_emb")).write_bytes(b"vectors")
        inputs = freshness.expected_inputs(CLIP_EMBEDDINGS, 0)
        transaction.commit(Counts(7, 7), settings=settings_digest(broken, CLIP_EMBEDDINGS), inputs=inputs)
    assert DatasetStatus(broken).state(CLIP_EMBEDDINGS, 0).state == "complete"
    ShardTask(broken, 0, retry=("http_5xx",)).run()
    assert DatasetStatus(broken).state(CLIP_EMBEDDINGS, 0).state == "stale"
    assert DatasetStatus(broken).state(IMAGE_SHARDS, 0).state == "complete"


def test_two_concurrent_retries_produce_one_shard_with_the_images_of_both(broken, site, monkeypatch):
    fetch, nested = shard_retry.fetch_rows, []

    def fetch_while_another_run_commits(*arguments):
        fetched = fetch(*arguments)
        if not nested:
            nested.append(True)
            ShardTask(broken, 0, retry=("short_body", "http_404")).run()
        return fetched

    monkeypatch.setattr(shard_retry, "fetch_rows", fetch_while_another_run_commits)
    ShardTask(broken, 0, retry=("http_5xx", "short_body")).run()
    assert manifest_of(broken).counts.reasons == {"opted_out": 1}
    assert [one["recovered"] for one in manifest_of(broken).details["retries"]] == [2, 2]
    assert disagreement(Store.of(broken), manifest_of(broken), hashes=True) is None
    assert Store.of(broken).names("staging/image_shards") == []


def test_a_resolver_that_is_down_changes_nothing(site, tmp_path):
    dataset = build_with(site, tmp_path, dict.fromkeys(range(6), "http_5xx"))
    files, manifest = committed_files(dataset), manifest_of(dataset)
    without_dns = replace(dataset, resolve={})
    with pytest.raises(LocalFailureError, match=r"shard is unchanged.*none of 1 URLs that worked .*check the resolver"):
        ShardTask(without_dns, 0, retry=FAILED).run()
    assert (committed_files(dataset), manifest_of(dataset)) == (files, manifest)


def test_a_merge_that_would_lose_an_image_is_not_committed(broken, monkeypatch):
    files, manifest = committed_files(broken), manifest_of(broken)
    copy, count = shard_merge._copy, []

    def copy_another(tar, span, out):
        count.append(span)
        copy(tar, count[0], out)

    monkeypatch.setattr(shard_merge, "_copy", copy_another)
    with pytest.raises((InvariantError, IntegrityError)):
        ShardTask(broken, 0, retry=FAILED).run()
    assert (committed_files(broken), manifest_of(broken)) == (files, manifest)


def test_a_merge_that_would_change_a_row_is_not_committed(broken, monkeypatch):
    files, merge = committed_files(broken), shard_merge._check_kept

    def check_another(base, base_tar, spans, merged, tar):
        merge(base, base_tar, spans, merged.set_column(4, "caption", [["x"] * merged.num_rows]), tar)

    monkeypatch.setattr(shard_merge, "_check_kept", check_another)
    with pytest.raises(InvariantError, match="rows of the parquet"):
        ShardTask(broken, 0, retry=FAILED).run()
    assert committed_files(broken) == files


def test_stale_damaged_and_altered_shards_are_not_retried(broken):
    root = Store.of(broken).local_root
    with pytest.raises(ShardError, match=r"stale or damaged.*without retry"):
        ShardTask(replace(broken, images=replace(IMAGES, image_size=64)), 0, retry=FAILED).run()
    tar = root / "image_shards/00000.tar"
    whole = tar.read_bytes()
    tar.write_bytes(whole[:600] + b"?" + whole[601:])
    with pytest.raises(IntegrityError, match=r"00000\.tar was altered"):
        ShardTask(broken, 0, retry=FAILED).run()
    tar.write_bytes(whole[:-1])
    with pytest.raises(ShardError, match="stale or damaged"):
        ShardTask(broken, 0, retry=FAILED).run()
    tar.write_bytes(whole)
    (root / "manifests/image_shards/00000.json").write_text("{")
    with pytest.raises(IntegrityError, match="damaged"):
        ShardTask(broken, 0, retry=FAILED).run()


def test_a_missing_shard_is_built_completely(site, tmp_path):
    dataset = dataset_of(tmp_path, ROWS, site.resolve)
    assert ShardTask(dataset, 0, retry=FAILED).run().successes == 12


def test_a_run_logs_what_it_retries(broken, site, monkeypatch):
    logged = []
    build_image_shards(replace(broken, images=replace(IMAGES, processes=1)), [0], logged.append, retry=FAILED)
    assert logged[0] == "retrying 3 of 12 rows, in 1 of 1 shards"
    assert "3 of 3 retried rows have an image now" in logged[-1]


KILLED_AT_EACH_STEP = """
import os, pickle, signal, sys
import exifread, pyarrow.parquet
import laion_assets.stages.image_shards.decoding.decoder_process, laion_assets.stages.image_shards.shard.writer
from laion_assets.store.backends.local_folder import LocalFolder
from laion_assets.stages.image_shards.shard import retry as shard_retry
STEPS = ("write_bytes", "create", "move_in", "move", "sync", "delete", "read_bytes")
task = pickle.load(open(sys.argv[1], "rb"))

def killing_at(step):
    done = 0
    for name in STEPS:
        def operation(*arguments, call=getattr(LocalFolder, name), **options):
            nonlocal done
            done += 1
            if done == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)
        setattr(LocalFolder, name, operation)

for line in sys.stdin:
    child = os.fork()
    if not child:
        killing_at(int(line))
        try:
            task.run()
        finally:
            os._exit(0)
    print(os.WTERMSIG(os.waitpid(child, 0)[1]), flush=True)
"""


def test_a_retry_killed_at_any_step_never_loses_an_image(broken, site, tmp_path):
    task = ShardTask(broken, 0, retry=("http_5xx", "short_body"))
    (tmp_path / "task").write_bytes(pickle.dumps(task))
    store = Store.of(broken)
    shutil.copytree(store.local_root, tmp_path / "kept")
    before, had = manifest_of(broken), committed_files(broken)
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED_AT_EACH_STEP, str(tmp_path / "task")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    finished, kills, ends = None, 0, set()
    for step in range(1, 200):
        process.stdin.write(f"{step}\n")
        process.stdin.flush()
        died = int(process.stdout.readline()) == signal.SIGKILL
        manifest = recover(store, IMAGE_SHARDS, "00000")
        assert manifest is not None, f"killed before step {step}: the shard is gone"
        assert disagreement(store, manifest, hashes=True) is None
        ends.add(manifest.counts.rows_out)
        kills += died
        assert task.run().successes == 10
        finished = finished or committed_files(broken)
        assert committed_files(broken) == finished
        assert store.names("staging/image_shards") == []
        shutil.rmtree(store.local_root)
        shutil.copytree(tmp_path / "kept", store.local_root)
        if not died:
            break
    process.stdin.close()
    process.wait(10)
    assert ends == {before.counts.rows_out, 10}, "some kills came before the shard was replaced and some after"
    assert kills > 20
    assert committed_files(broken) == had
