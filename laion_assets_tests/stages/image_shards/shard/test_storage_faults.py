"""Every storage operation fails once: no partial shard is ever complete, and the next run builds it.

Tested for the commit of a shard and of a retry, on a disk and on an object store.
"""

import errno
import itertools
import os
import resource
import shutil
from dataclasses import replace

import fsspec
import pytest

from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.stages.image_shards.retry_reasons import retry_reasons
from laion_assets.stages.image_shards.shard.task import ShardTask
from laion_assets.stages.status import DatasetStatus
from laion_assets.store.backends.local_folder import LocalFolder
from laion_assets.store.backends.object_store import ObjectStore
from laion_assets.store.manifest import disagreement, read_manifest
from laion_assets.store.store import Store
from laion_assets_tests.stages.image_shards.images import jpeg
from laion_assets_tests.stages.image_shards.shards import committed_files, dataset_of
from laion_assets_tests.stages.image_shards.site import answer, running

ROWS = [(f"http://photos.test/{n}.jpg", f"image {n}") for n in range(4)]
PAGES = {f"/{n}.jpg": answer(jpeg(90 + n, 80, n)) for n in range(4)}
OPERATIONS = (
    "read_bytes", "open", "size", "names", "write_bytes", "create", "move_in", "move_all_in", "move", "move_all",
    "sync", "delete", "local_copy",
)  # fmt: skip
FAILED = retry_reasons("failed")


@pytest.fixture(scope="module")
def site():
    with running(dict(PAGES)) as running_site:
        yield running_site


def failing_at(step, monkeypatch):
    """Let the step-th operation on a store fail with a full disk. Return the list of operations, which grows."""
    done = []

    def failing(name, operation):
        def operate(self, *arguments, **options):
            done.append(name)
            if len(done) == step:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return operation(self, *arguments, **options)

        return operate

    for files, name in itertools.product((LocalFolder, ObjectStore), OPERATIONS):
        monkeypatch.setattr(files, name, failing(name, getattr(files, name)))
    return done


def state_of(dataset):
    """Return the committed number of images, after comparing all files with the manifest; None without a manifest."""
    manifest = read_manifest(Store.of(dataset), IMAGE_SHARDS, "00000")
    if manifest is None:
        return None
    assert disagreement(Store.of(dataset), manifest, hashes=True) is None, "the files differ from the manifest"
    return manifest.counts.rows_out


def objects(dataset, folder="image_shards"):
    """Return the content of the objects in a folder of the dataset's store, by name, without stats."""
    store = Store.of(dataset)
    names = [name for name in store.names(folder) if not name.endswith("_stats.json")]
    return {name: store.read_bytes(f"{folder}/{name}") for name in names}


@pytest.mark.parametrize("kind", ["first", pytest.param("retry", marks=pytest.mark.slow)])
def test_a_failed_operation_on_an_object_store_leaves_no_partial_shard(kind, site, tmp_path, object_store, monkeypatch):
    retry = FAILED if kind == "retry" else ()
    root = f"{object_store}/faults-{kind}"
    start = dataset_of(f"{root}/start", ROWS, site.resolve)
    if retry:
        site.pages["/2.jpg"] = answer(b"", "503 Service Unavailable")
        ShardTask(start, 0).run()
        site.pages["/2.jpg"] = PAGES["/2.jpg"]
    whole = dataset_of(tmp_path, ROWS, site.resolve)
    ShardTask(whole, 0).run()
    dataset, before, failures = replace(start, root=f"{root}/copy"), state_of(start), 0
    bucket = fsspec.filesystem("s3", use_listings_cache=False)
    for step in range(1, 100):
        if bucket.exists(f"{root}/copy"):
            bucket.rm(f"{root}/copy", recursive=True)
        bucket.copy(f"{root}/start/", f"{root}/copy/", recursive=True)
        with monkeypatch.context() as patch:
            done = failing_at(step, patch)
            try:
                ShardTask(dataset, 0, retry=retry).run()
            except OSError:
                failures += 1
        assert state_of(dataset) in {before, 4, None}, "a partial shard is committed"
        ShardTask(dataset, 0, retry=retry).run()
        assert objects(dataset) == committed_files(whole), (
            f"after operation {step} ({done[min(step, len(done)) - 1]}) failed"
        )
        assert DatasetStatus(dataset).state(IMAGE_SHARDS, 0).state == "complete"
        assert bucket.find(f"{root}/copy/tiny/staging") == []
        if len(done) < step:
            break
    assert step > 10
    assert failures > 8


@pytest.mark.parametrize("kind", ["first", "retry"])
def test_a_failed_operation_on_a_disk_leaves_no_partial_shard(kind, site, tmp_path, monkeypatch):
    retry = FAILED if kind == "retry" else ()
    start = dataset_of(tmp_path / "start", ROWS, site.resolve)
    if retry:
        site.pages["/2.jpg"] = answer(b"", "503 Service Unavailable")
        ShardTask(start, 0).run()
        site.pages["/2.jpg"] = PAGES["/2.jpg"]
    whole = dataset_of(tmp_path / "whole", ROWS, site.resolve)
    ShardTask(whole, 0).run()
    dataset, before, failures = replace(start, root=str(tmp_path / "work")), state_of(start), 0
    for step in range(1, 200):
        shutil.rmtree(dataset.root, ignore_errors=True)
        shutil.copytree(start.root, dataset.root)
        with monkeypatch.context() as patch:
            done = failing_at(step, patch)
            try:
                ShardTask(dataset, 0, retry=retry).run()
            except OSError:
                failures += 1
        seen = state_of(dataset)
        assert seen in {before, 4, None}, "a partial shard is committed"
        ShardTask(dataset, 0, retry=retry).run()
        assert committed_files(dataset) == committed_files(whole), f"after operation {step} ({done[step - 1]}) failed"
        assert DatasetStatus(dataset).state(IMAGE_SHARDS, 0).state == "complete"
        staging = Store.of(dataset).local_root / "staging"
        assert [path for path in staging.rglob("*") if path.is_file()] == []
        if len(done) < step:
            break
    assert step > 15
    assert failures > 10


def test_a_full_disk_leaves_no_manifest_and_the_next_run_builds_the_shard(site, tmp_path):
    """The kernel refuses writes: files of this process are limited to a part of the shard."""
    dataset, whole = (dataset_of(tmp_path / name, ROWS, site.resolve) for name in ("work", "whole"))
    ShardTask(whole, 0).run()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (500, 8_000, len(committed_files(whole)["00000.tar"]) - 600):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(OSError, match="File too large"):
                ShardTask(dataset, 0).run()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert state_of(dataset) is None
        assert DatasetStatus(dataset).state(IMAGE_SHARDS, 0).state == "missing"
        assert not (Store.of(dataset).local_root / "staging/image_shards/00000").exists()
    ShardTask(dataset, 0).run()
    assert committed_files(dataset) == committed_files(whole)
