"""Large inputs under memory caps; `make test-scale`. Each cap is asserted on the processes' resident memory."""

import asyncio
import contextlib
import hashlib
import io
import json
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout
from laion_assets.stages.clip_embeddings.handle import ClipEmbeddings
from laion_assets.stages.dedup_parquet.handle import DedupParquet
from laion_assets.stages.image_shards.handle import ImageShards
from laion_assets.stages.status import settings_digest
from laion_assets.store.manifest import Counts
from laion_assets.store.store import Store
from laion_assets.store.transaction import open_transaction
from laion_assets_tests.scale.memory import peak_memory

pytestmark = pytest.mark.scale

DRIVER_MEMORY = "2g"
JVM_CAP_MIB = 3_072
"""A JVM of 2 GB heap: its resident memory holds code, threads and Arrow's buffers beside the heap."""
PYTHON_WORKER_CAP_MIB = 1_024
SHARD_WORKER_CAP_MIB = 1_024
EMBEDDING_CAP_MIB = 3_072
"""torch and the model take most of it; what matters is that 1 M rows take no more than 50,000 do."""


def test_four_million_csv_rows_under_a_two_gigabyte_driver(tmp_path: Path) -> None:
    from laion_assets.orchestration.resources.spark import SparkResource, end_jvm
    from laion_assets.stages.dedup_parquet.build import build_dedup_parquet
    from laion_assets.stages.raw_csv.build import fetch_raw_csv

    files, rows_a_file = 40, 100_000
    source = tmp_path / "crawl"
    source.mkdir()
    for number in range(files):
        _write_csv(source / f"{number:03d}.csv", number, rows_a_file)
    dataset = replace(SAMPLE, source=str(source), root=str(tmp_path / "data"), layout=Layout(8, 440, 8, 10_000))
    store = Store.of(dataset)
    fetch_raw_csv(dataset, store, print)
    session = SparkResource(master="local[2]", driver_memory=DRIVER_MEMORY).session()
    started = time.monotonic()
    try:
        with peak_memory() as peaks:
            build_dedup_parquet(session, dataset, store, range(8), print)
    finally:
        end_jvm()
    counts = [DedupParquet.of(dataset).manifest(parquet).counts for parquet in range(8)]
    print(
        f"{files * rows_a_file:,} rows in {time.monotonic() - started:.0f} s; "
        f"peak MiB: JVM {peaks.largest('java'):.0f}, "
        f"Python workers {peaks.largest('pyspark.daemon'):.0f}, driver's Python {peaks.own:.0f}"
    )
    assert sum(one.rows_in for one in counts) == files * rows_a_file
    assert sum(one.rows_out for one in counts) == files * rows_a_file * 9 // 10
    assert 0 < peaks.largest("java") < JVM_CAP_MIB
    assert 0 < peaks.largest("pyspark.daemon") < PYTHON_WORKER_CAP_MIB
    assert peaks.own < PYTHON_WORKER_CAP_MIB, "rows were collected on the driver"


def test_a_shard_of_ten_thousand_images_under_one_gigabyte_per_worker(tmp_path: Path) -> None:
    from laion_assets.stages.image_shards.build import build_image_shards

    with _picture_server() as port:
        dataset = replace(
            SAMPLE,
            root=str(tmp_path),
            layout=Layout(1, 2, 1, 10_000),
            resolve={"*.test": f"127.0.0.1:{port}"},
            images=replace(
                SAMPLE.images,
                fetch=replace(SAMPLE.images.fetch, deadline_s=60.0, connect_timeout_s=20.0),
                processes=2,
            ),
        )
        _publish_rows(dataset, 20_000)
        with peak_memory() as peaks:
            build_image_shards(dataset, range(2), print)
    counts = [ImageShards.of(dataset).manifest(shard).counts for shard in range(2)]
    print(f"peak MiB of a worker: {peaks.largest('laion_assets.workers.child'):.0f}")
    assert [(one.rows_in, one.rows_out) for one in counts] == [(10_000, 10_000)] * 2
    assert 0 < peaks.largest("laion_assets.workers.child") < SHARD_WORKER_CAP_MIB


def test_an_embedding_file_of_a_million_rows_under_a_cap(tmp_path: Path) -> None:
    from laion_assets.models.loading import load_model
    from laion_assets.stages.clip_embeddings.build import build_embedding_file

    dataset = replace(SAMPLE, root=str(tmp_path), layout=Layout(1, 200, 2, 10_000), model=_tiny_model(tmp_path))
    store = Store.of(dataset)
    for shard in range(200):
        _commit_shard(dataset, shard, rows=500 if shard < 100 else 10_000)
    model = load_model(dataset.model)
    with peak_memory() as few:
        build_embedding_file(dataset, store, 0, model, print)
    with peak_memory() as many:
        build_embedding_file(dataset, store, 1, model, print)
    few_rows, rows = (ClipEmbeddings.of(dataset).manifest(number).counts.rows_out for number in (0, 1))
    print(f"{rows:,} rows: peak {many.own:.0f} MiB; {few_rows:,} rows: peak {few.own:.0f} MiB")
    assert rows == 1_000_000
    assert np.load(tmp_path / "sample" / ClipEmbeddings.path(dataset.layout, 1, "img_emb"), mmap_mode="r").shape == (
        1_000_000,
        model.width,
    )
    assert many.own < EMBEDDING_CAP_MIB
    assert many.own < few.own + 512, "memory grows with the rows"


def _write_csv(path: Path, number: int, rows: int) -> None:
    """A CSV of the crawl's dialect; each tenth row repeats the url and caption of the row before."""
    lines = ["SAMPLE_ID|URL|TEXT|HEIGHT|WIDTH|LICENSE|NSFW|similarity"]
    for row in range(rows):
        one = row - 1 if row % 10 == 9 else row
        url = f"https://host-{one % 5_000}.example/{number}/{one}.jpg"
        caption = f"picture number {one} of file {number}, as someone described it at some length on their page"
        lines.append(f"{number * rows + row}|{url}|{caption}|480|640|?|UNLIKELY|0.3{row % 100:02d}")
    path.write_text("\n".join(lines) + "\n")


@contextlib.contextmanager
def _picture_server() -> Iterator[int]:
    """A loopback server that answers every request with one photo-like image of 1200 x 800. Yields its port."""
    noise = np.random.default_rng(0).integers(0, 255, (50, 75, 3), dtype=np.uint8)
    body = _jpeg(Image.fromarray(noise).resize((1200, 800), Image.Resampling.BICUBIC), 85)
    head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(head + body)
                await writer.drain()
        writer.close()

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(answer, "127.0.0.1", 0, backlog=512))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def _publish_rows(dataset: Dataset, rows: int) -> None:
    """Publish parquet file 0 with so many rows, one row group a shard."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from laion_assets.dataset.identity import compute_uid, rows_digest
    from laion_assets.tables.columns import DEDUP_SCHEMA

    layout, outputs = dataset.layout, {}
    urls = [f"http://photos-{row % 40:02d}.test/{row}.jpg" for row in range(rows)]
    found = sorted((compute_uid(url, f"picture {url}"), url) for url in urls)
    with open_transaction(Store.of(dataset), "dedup_parquet", layout.parquet_key(0)) as transaction:
        path = transaction.stage(DedupParquet.path(layout, 0))
        with pq.ParquetWriter(path, DEDUP_SCHEMA) as writer:
            for shard in layout.shards_of_parquet(0):
                part = [found[row] for row in layout.rows_of_shard(shard, layout.shards, rows)]
                values = [
                    {"uid": uid, "URL": url, "TEXT": f"picture {url}", "source_file": "a.csv", "source_row": 1}
                    for uid, url in part
                ]
                table = pa.Table.from_pylist(values, DEDUP_SCHEMA)
                outputs[layout.shard_key(shard)] = rows_digest(table)
                writer.write_table(table, row_group_size=len(part))
        digest = settings_digest(dataset, "dedup_parquet")
        transaction.commit(Counts(rows, rows), settings=digest, inputs="", outputs=outputs)


def _commit_shard(dataset: Dataset, shard: int, rows: int) -> None:
    """Commit a shard of small images in img2dataset's layout."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from laion_assets.stages.image_shards.shard.columns import shard_schema

    layout, schema = dataset.layout, shard_schema(dataset.images)
    colours = np.random.default_rng(shard).integers(0, 255, (rows, 3))
    records = []
    with open_transaction(Store.of(dataset), "image_shards", layout.shard_key(shard)) as transaction:
        with tarfile.open(transaction.stage(ImageShards.path(layout, shard, ".tar")), "w") as tar:
            for row in range(rows):
                key = layout.sample_key(shard, row)
                record = dict.fromkeys(schema.names) | {
                    "uid": hashlib.md5(key.encode()).hexdigest(),
                    "caption": f"picture {key}",
                    "url": f"http://photos-01.test/{key}.jpg",
                    "key": key,
                    "status": "success",
                    "width": 64,
                    "height": 64,
                    "reason": "success",
                }
                records.append(record)
                image = _jpeg(Image.new("RGB", (64, 64), tuple(int(one) for one in colours[row])), 75)
                caption = str(record["caption"]).encode()
                for suffix, content in (("jpg", image), ("json", json.dumps(record).encode()), ("txt", caption)):
                    member = tarfile.TarInfo(f"{key}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
        pq.write_table(
            pa.Table.from_pylist(records, schema), transaction.stage(ImageShards.path(layout, shard, ".parquet"))
        )
        transaction.commit(Counts(rows, rows), settings=settings_digest(dataset, "image_shards"), inputs="")


def _tiny_model(folder: Path) -> str:
    """A fast open_clip model, because the test measures the memory of rows only."""
    from safetensors.torch import save_file

    from laion_assets.models.open_clip_package import import_open_clip

    open_clip = import_open_clip()

    architecture = {
        "embed_dim": 128,
        "vision_cfg": {"image_size": 32, "patch_size": 16, "layers": 1, "width": 64, "head_width": 32},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    }
    (folder / "laion-assets-tiny.json").write_text(json.dumps(architecture))
    open_clip.add_model_config(folder / "laion-assets-tiny.json")
    weights = folder / "tiny.safetensors"
    save_file(open_clip.create_model("laion-assets-tiny").state_dict(), weights)
    return f"open_clip:laion-assets-tiny/{weights}"


def _jpeg(image: Image.Image, quality: int) -> bytes:
    output = io.BytesIO()
    image.save(output, "JPEG", quality=quality)
    return output.getvalue()
