"""Exports of millions of rows need no more memory than exports of fewer rows; `make test-scale`."""

import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS, ImageShards
from laion_assets.stages.image_shards.shard.columns import shard_schema
from laion_assets.store.manifest import Counts
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction
from laion_assets_tests.scale.memory import peak_memory

pytestmark = pytest.mark.scale

SHARDS, ROWS = 300, 10_000
CAP_MIB = 700
"""Of a process with up to 8 threads, each with a shard's table and a database of at most 512 MB."""
GROWTH_MIB = 150
"""Three million rows against 300,000."""
EXPORT = """
import pickle, sys
from pathlib import Path
from laion_assets.export.request import ExportRequest
from laion_assets.export.run import plan_export, write_export
dataset = pickle.loads(Path(sys.argv[1]).read_bytes())
planned = plan_export(dataset, ExportRequest(sys.argv[2], where=sys.argv[3]), print)
print(write_export(planned, sys.argv[4], print))
"""
WHERE = "original_width >= 512 AND caption ILIKE '%a%'"


def _table(dataset: Dataset) -> pa.Table:
    rng = random.Random(1)
    letters = "abcdefghijklmnopqrstuvwxyz      "
    rows = [
        {
            "uid": f"{rng.getrandbits(128):032x}",
            "NSFW": rng.choice(["UNLIKELY", "UNLIKELY", "UNLIKELY", "NSFW", None]),
            "similarity": rng.random(),
            "LICENSE": "?",
            "caption": "".join(rng.choices(letters, k=60)),
            "url": f"https://example.org/{rng.getrandbits(128):x}.jpg",
            "key": f"{number:09d}",
            "status": "success" if rng.random() < 0.8 else "failed_to_download",
            "width": 256,
            "height": 256,
            "original_width": rng.randrange(100, 2_000),
            "original_height": rng.randrange(100, 2_000),
            "exif": "{}",
            "reason": "success",
        }
        for number in range(ROWS)
    ]
    return pa.Table.from_pylist(rows, shard_schema(dataset.images))


def _commit(dataset: Dataset, folder: Path) -> int:
    """Commit the same rows as every shard, and return how many of a shard's rows are exported."""
    table = _table(dataset)
    pq.write_table(table, folder / "rows.parquet")
    for shard in dataset.layout.shard_numbers:
        with open_transaction(Store.of(dataset), IMAGE_SHARDS, dataset.layout.shard_key(shard)) as transaction:
            shutil.copyfile(
                folder / "rows.parquet", transaction.stage(ImageShards.path(dataset.layout, shard, ".parquet"))
            )
            transaction.stage(ImageShards.path(dataset.layout, shard, ".tar")).write_bytes(bytes(10_240))
            transaction.commit(Counts(ROWS, ROWS), settings="", inputs="")
    return sum(
        row["original_width"] >= 512
        and "a" in row["caption"]
        and row["NSFW"] in ("UNLIKELY", None)
        and row["status"] == "success"
        for row in table.to_pylist()
    )


def test_a_predicate_over_three_million_rows_under_a_cap(tmp_path: Path) -> None:
    import pickle

    peaks: dict[tuple[int, str], float] = {}
    for shards in (SHARDS // 10, SHARDS):
        folder = tmp_path / str(shards)
        folder.mkdir()
        layout = Layout(parquet_files=1, shards=shards, embedding_files=1, rows_per_shard=ROWS)
        dataset = replace(SAMPLE, root=str(folder / "data"), layout=layout)
        expected = shards * _commit(dataset, folder)
        (folder / "dataset").write_bytes(pickle.dumps(dataset))
        for file_format in ("parquet", "csv", "json", "npy"):
            started = time.monotonic()
            with peak_memory() as sampled:
                done = subprocess.run(
                    [sys.executable, "-c", EXPORT, folder / "dataset", file_format, WHERE, folder / file_format],
                    capture_output=True,
                    text=True,
                )
            assert done.returncode == 0, done.stderr
            peaks[shards, file_format] = sampled.largest("plan_export")
            print(
                f"{shards * ROWS:,} rows, {file_format}: {time.monotonic() - started:.0f} s, "
                f"peak {peaks[shards, file_format]:.0f} MiB"
            )
            if file_format == "npy":  # the same uids in every shard
                assert len(np.load(folder / "npy" / "uids" / "uids.npy", mmap_mode="r")) == expected // shards
            else:
                assert f"written={expected}," in done.stdout
        shutil.rmtree(folder)
    for file_format in ("parquet", "csv", "json", "npy"):
        assert 0 < peaks[SHARDS, file_format] < CAP_MIB
        assert peaks[SHARDS, file_format] < peaks[SHARDS // 10, file_format] + GROWTH_MIB
