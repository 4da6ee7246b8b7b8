"""The commit: a partition is complete if and only if its manifest is there and agrees with its files."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil
import pytest

from laion_assets.errors import IntegrityError, InvariantError, LeaseError
from laion_assets.store import transaction as transaction_module
from laion_assets.store.backends.local_folder import LocalFolder
from laion_assets.store.backends.object_store import ObjectStore
from laion_assets.store.lease import LEASE_S, holder_name, is_alive, lease
from laion_assets.store.manifest import Counts, FileEntry, Manifest, disagreement, read_manifest
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction, recover

ASSET, KEY = "image_shards", "00003"


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return Store(str(tmp_path / "root"))
    return Store(f"{request.getfixturevalue('object_store')}/{tmp_path.name}")


def commit(store: Store, tar: bytes, parquet: bytes = b"rows", *, settings: str = "s", inputs: str = "i") -> Manifest:
    with open_transaction(store, ASSET, KEY) as transaction:
        transaction.stage(f"image_shards/{KEY}.tar").write_bytes(tar)
        transaction.stage(f"image_shards/{KEY}.parquet").write_bytes(parquet)
        return transaction.commit(Counts(3, 2, {"http_404": 1}), settings=settings, inputs=inputs)


def staged(store: Store) -> list[str]:
    return store.names(f"staging/{ASSET}/{KEY}")


def test_committed_partition_has_its_files_and_agrees_with_its_manifest(store: Store) -> None:
    manifest = commit(store, b"tar")
    assert read_manifest(store, ASSET, KEY) == manifest
    assert store.read_bytes(f"image_shards/{KEY}.tar") == b"tar"
    assert disagreement(store, manifest, hashes=True) is None
    assert staged(store) == []


def test_empty_intent_after_a_power_loss_is_dropped(store: Store) -> None:
    before = commit(store, b"old", b"old rows")
    store.write_bytes(f"staging/{ASSET}/{KEY}/intent.json", b"")
    assert recover(store, ASSET, KEY) == before
    assert commit(store, b"new", b"new rows", settings="other").settings == "other"
    assert staged(store) == []


@pytest.mark.parametrize("replacing", [False, True], ids=["first commit", "replacing commit"])
def test_power_loss_at_any_step_leaves_the_old_or_the_new_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replacing: bool
) -> None:
    """After a power loss, files have their content only if they were synced to the disk; others are empty."""
    root = tmp_path / "store"
    store, synced, snapshots = Store(str(root)), set[tuple[int, ...]](), list[Path]()
    fsync = os.fsync

    def identity(status: os.stat_result) -> tuple[int, ...]:
        return status.st_ino, status.st_mtime_ns, status.st_size

    def sync(descriptor: int) -> None:
        fsync(descriptor)
        synced.add(identity(os.fstat(descriptor)))

    def lose_power() -> None:
        copy = tmp_path / f"after-step-{len(snapshots)}"
        shutil.copytree(root, copy)
        for path in root.rglob("*"):
            if path.is_file() and identity(path.stat()) not in synced:
                (copy / path.relative_to(root)).write_bytes(b"")
        snapshots.append(copy)

    monkeypatch.setattr(os, "fsync", sync)
    if replacing:
        commit(store, b"old", b"old rows", settings="old")
    for name in ("write_bytes", "move_in", "move", "sync", "delete"):
        step = getattr(LocalFolder, name)

        def call(self: LocalFolder, *arguments: Any, step: Any = step, **options: Any) -> Any:
            result = step(self, *arguments, **options)
            lose_power()
            return result

        monkeypatch.setattr(LocalFolder, name, call)
    commit(store, b"new", b"new rows", settings="new")
    monkeypatch.undo()
    assert len(snapshots) > 8
    found = set()
    for copy in snapshots:
        survivor = Store(str(copy))
        manifest = recover(survivor, ASSET, KEY)
        found.add(manifest and manifest.settings)
        if manifest is not None:
            tar = survivor.read_bytes(f"image_shards/{KEY}.tar").decode()
            assert (tar, disagreement(survivor, manifest, hashes=True)) == (manifest.settings, None)
        assert commit(survivor, b"next", settings="next").settings == "next"
    assert found == ({"old", "new"} if replacing else {None, "new"})


def test_violated_row_count_invariant_commits_nothing(store: Store) -> None:
    with open_transaction(store, ASSET, KEY) as transaction:
        transaction.stage(f"image_shards/{KEY}.tar").write_bytes(b"tar")
        with pytest.raises(InvariantError, match=f"{ASSET} {KEY}: 3 rows in, 2 out and 0 dropped"):
            transaction.commit(Counts(3, 2), settings="s", inputs="i")
    assert read_manifest(store, ASSET, KEY) is None
    assert store.size(f"image_shards/{KEY}.tar") is None
    assert staged(store) == []


def test_staged_file_that_was_not_written_commits_nothing(store: Store) -> None:
    with open_transaction(store, ASSET, KEY) as transaction:
        transaction.stage(f"image_shards/{KEY}.tar")
        with pytest.raises(IntegrityError, match="never written"):
            transaction.commit(Counts(0, 0), settings="s", inputs="i")
    assert read_manifest(store, ASSET, KEY) is None


def test_second_commit_replaces_all_files_of_the_first(store: Store) -> None:
    commit(store, b"old", b"old rows")
    manifest = commit(store, b"new", b"new rows", settings="other")
    assert read_manifest(store, ASSET, KEY) == manifest
    assert disagreement(store, manifest, hashes=True) is None


def test_committing_the_same_bytes_again_keeps_the_first_manifest(store: Store) -> None:
    first = commit(store, b"tar")
    assert commit(store, b"tar") == first


def test_kept_files_stay_unchanged_next_to_new_files(store: Store) -> None:
    """raw_csv grows by files. Old files are neither staged nor read again."""
    first = commit(store, b"tar")
    kept, new = first.entry(".tar"), FileEntry(f"image_shards/{KEY}.csv", 3, sha256(b"new").hexdigest())
    with open_transaction(store, ASSET, KEY) as transaction:
        transaction.keep(kept)
        transaction.stage_hashed(new).write_bytes(b"new")
        manifest = transaction.commit(Counts(2, 2), settings="s", inputs="i")
    assert manifest.files == (new, kept)
    assert read_manifest(store, ASSET, KEY) == manifest
    assert disagreement(store, manifest, hashes=True) is None


def test_commit_fails_if_another_run_replaced_a_kept_file(store: Store) -> None:
    kept = commit(store, b"tar").entry(".tar")
    newer = commit(store, b"other tar")
    with open_transaction(store, ASSET, KEY) as transaction:
        transaction.keep(kept)
        with pytest.raises(IntegrityError, match="another run changed it"):
            transaction.commit(Counts(1, 1), settings="s", inputs="i")
    assert read_manifest(store, ASSET, KEY) == newer


def test_many_files_are_committed_like_few_files(store: Store) -> None:
    """From 32 files on, an object store is listed, and a disk is synced once."""
    with open_transaction(store, ASSET, KEY) as transaction:
        for number in range(40):
            transaction.stage(f"image_shards/{KEY}/{number}.csv").write_bytes(b"%d" % number)
        manifest = transaction.commit(Counts(40, 40), settings="s", inputs="i")
    assert read_manifest(store, ASSET, KEY) == manifest
    assert disagreement(store, manifest, hashes=True) is None
    store.delete(f"image_shards/{KEY}/7.csv")
    assert "7.csv is missing" in str(disagreement(store, manifest))


def test_manifest_of_200_000_files_is_written_and_read_in_seconds() -> None:
    files = tuple(
        FileEntry(f"raw_csv/2021-{number % 100:02d}/{number}.csv", number, "0" * 64) for number in range(200_000)
    )
    manifest = Manifest("raw_csv", "all", files, Counts(200_000, 200_000), "s", "i")
    started = time.process_time()
    assert Manifest.from_json(manifest.to_json(), "here") == manifest
    assert time.process_time() - started < 10


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_interrupted_commit_is_rolled_forward(store: Store, moves: int, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(store, b"old", b"old rows")
    done = 0
    files = type(store.files)
    move: Callable[..., None] = files.move

    def dying_move(self: LocalFolder | ObjectStore, *arguments: Any) -> None:
        nonlocal done
        if done == moves:
            raise OSError("the disk went away")
        done += 1
        move(self, *arguments)

    def dying_write(self: Store, path: str, content: bytes, *, durable: bool = True) -> None:
        if path.startswith("manifests/") and done == 2:
            raise OSError("the disk went away")
        write(self, path, content, durable=durable)

    write = Store.write_bytes
    monkeypatch.setattr(files, "move", dying_move)
    monkeypatch.setattr(Store, "write_bytes", dying_write)
    with pytest.raises(OSError, match="the disk went away"):
        commit(store, b"new", b"new rows", settings="other")
    monkeypatch.undo()
    if store.local_root is None:
        monkeypatch.setenv("FSSPEC_S3_ENDPOINT_URL", os.environ.get("FSSPEC_S3_ENDPOINT_URL", ""))
    current = read_manifest(store, ASSET, KEY)
    assert current is None or disagreement(store, current, hashes=True) is None, "old and new files were mixed"
    manifest = recover(store, ASSET, KEY)
    assert manifest is not None
    assert manifest.settings == "other"
    assert store.read_bytes(f"image_shards/{KEY}.tar") == b"new"
    assert disagreement(store, manifest, hashes=True) is None
    assert staged(store) == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "2 bytes, but its manifest lists 3"),
        (lambda path: path.write_bytes(b"tbr"), "altered"),
    ],
)
def test_missing_truncated_and_altered_files_are_named(tmp_path: Path, damage, message: str) -> None:  # type: ignore[no-untyped-def]
    store = Store(str(tmp_path))
    manifest = commit(store, b"tar")
    damage(tmp_path / "image_shards" / f"{KEY}.tar")
    problem = disagreement(store, manifest, hashes=True)
    assert problem is not None
    assert message in problem
    assert f"{KEY}.tar" in problem


@pytest.mark.parametrize("content", [b"", b"{", b'{"format": 2}', b'{"format": 1, "asset": "x"}', b"[]", b"null"])
def test_damaged_manifest_is_refused_and_counts_as_missing(tmp_path: Path, content: bytes) -> None:
    store = Store(str(tmp_path))
    commit(store, b"tar")
    store.write_bytes(f"manifests/{ASSET}/{KEY}.json", content)
    with pytest.raises(IntegrityError, match="damaged"):
        read_manifest(store, ASSET, KEY)
    assert recover(store, ASSET, KEY) is None


def _commit_until_roll_forward(url: str, ready) -> None:  # type: ignore[no-untyped-def]
    def stop(*_: object) -> None:
        ready.set()
        time.sleep(60)

    transaction_module.roll_forward = stop  # type: ignore[assignment]
    commit(Store(url), b"tar")


def test_lease_of_a_killed_process_is_taken_over_and_its_staging_removed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_commit_until_roll_forward, args=(str(tmp_path), ready))
    process.start()
    assert ready.wait(30)
    with pytest.raises(LeaseError, match=str(process.pid)), lease(Store(str(tmp_path)), ASSET, KEY, wait_s=0.3):
        pass
    os.kill(process.pid, signal.SIGKILL)  # type: ignore[arg-type]
    process.join()
    store = Store(str(tmp_path))
    recover(store, ASSET, KEY)
    assert staged(store) == []
    assert commit(store, b"tar").counts.rows_out == 2


def _commit_until_the_intent(url: str, ready) -> None:  # type: ignore[no-untyped-def]
    def write(self: Store, path: str, content: bytes, **options: bool) -> None:
        if path.endswith("intent.json"):
            ready.set()
            time.sleep(60)
        return write_bytes(self, path, content, **options)

    write_bytes = Store.write_bytes
    Store.write_bytes = write  # type: ignore[method-assign]
    commit(Store(url), b"tar")


def test_staged_files_of_a_process_killed_before_its_intent_are_removed(store: Store) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_commit_until_the_intent, args=(store.url, ready))
    process.start()
    assert ready.wait(30)
    assert staged(store)
    recover(store, ASSET, KEY)
    assert staged(store), "its process is alive"
    os.kill(process.pid, signal.SIGKILL)  # type: ignore[arg-type]
    process.join()
    assert recover(store, ASSET, KEY) is None
    assert staged(store) == []
    assert commit(store, b"tar").counts.rows_out == 2


def _named(started: float, pid: int, at: float, machine: str) -> str:
    return f"0123456789abcdef-{machine}-{pid}-{started:.2f}-{at:.0f}"


def test_staging_of_dead_processes_is_removed_and_of_live_processes_kept(tmp_path: Path) -> None:
    store, now = Store(str(tmp_path)), time.time()
    staging = tmp_path / f"staging/{ASSET}/{KEY}"
    with holder_name() as ours:
        machine = ours.split("-")[1]
        parent = psutil.Process(os.getppid())
        started = parent.create_time() - psutil.boot_time()
        alive = [ours, _named(started, parent.pid, now, machine), _named(1.0, 1, now, "another")]
        dead = [
            _named(started - 1, parent.pid, now, machine),  # another process has its pid now
            _named(1.0, 2**22 + 1, now, machine),
            _named(1.0, 1, now - LEASE_S - 10, "another"),
            ours.replace(ours[:16], "f" * 16),  # abandoned by this process
            "0a1b2c3d4e5f",
        ]
        for number, name in enumerate([*alive, *dead]):
            (staging / name).mkdir(parents=True)
            if number % 2:
                (staging / name / "image.tar").write_bytes(b"")
        (staging / ".intent.json.0a1b2c3d").write_bytes(b'{"attem')
        assert recover(store, ASSET, KEY) is None
        assert staged(store) == sorted(alive)
    recover(store, ASSET, KEY)
    assert staged(store) == sorted(alive[1:])


def test_holder_counts_as_alive_after_a_change_of_the_system_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    with holder_name() as ours:
        _, machine, _, _, at = ours.split("-")
        parent = psutil.Process(os.getppid())
        name = _named(parent.create_time() - psutil.boot_time(), parent.pid, float(at), machine)
        assert is_alive(name)
        linux = psutil._psplatform
        monkeypatch.setattr(linux, "boot_time", lambda boot=linux.boot_time: boot() - 3_600)
        assert psutil.Process(os.getppid()).create_time() == pytest.approx(parent.create_time() - 3_600)
        assert is_alive(name)


def _commit_often(url: str, content: bytes, times: int) -> None:
    for number in range(times):
        commit(Store(url), content * 1000, content, settings=f"{content!r}{number}")


def test_concurrent_commits_end_in_one_consistent_state(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_commit_often, args=(str(tmp_path), content, 25)) for content in (b"a", b"b", b"c")
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    store = Store(str(tmp_path))
    manifest = read_manifest(store, ASSET, KEY)
    assert manifest is not None
    assert disagreement(store, manifest, hashes=True) is None
    assert staged(store) == []


def test_manifest_is_json_with_counts_and_files(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    commit(store, b"tar")
    content = json.loads((tmp_path / "manifests" / ASSET / f"{KEY}.json").read_text())
    assert content["counts"] == {"rows_in": 3, "rows_out": 2, "reasons": {"http_404": 1}}
    assert content["files"][1]["path"] == f"image_shards/{KEY}.tar"
