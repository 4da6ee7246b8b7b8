"""Kept columns travel from the source to dedup_parquet, and to the parquet file and the samples of a shard."""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.layout import Layout, ShardNumber
from laion_assets.stages.clip_embeddings.metadata_file import metadata_schema
from laion_assets.stages.dedup_parquet.build import build_dedup_parquet
from laion_assets.stages.dedup_parquet.settings import DedupSettings
from laion_assets.stages.image_shards.asset import table_columns
from laion_assets.stages.image_shards.shard.task import ShardTask
from laion_assets.store.store import Store
from laion_assets_tests.stages.dedup_parquet.tables import publish_csvs, quiet
from laion_assets_tests.stages.image_shards.images import jpeg
from laion_assets_tests.stages.image_shards.shards import IMAGES
from laion_assets_tests.stages.image_shards.site import answer, running

KEEP = ("lang", "id:int64", "score:float64", "tags")
EXPECTED = {
    "/0.jpg": ("de", 7, 0.5, '["a", 1]'),
    "/1.jpg": (None, None, None, None),
    "/missing.jpg": ("fr", -1, 1e300, "x"),
}


@pytest.mark.parametrize("engine", ["laion_assets", pytest.param("img2dataset", marks=pytest.mark.scale)])
def test_kept_columns_reach_the_parquet_file_and_the_samples(engine: str, spark: Any, tmp_path: Path) -> None:
    with running({f"/{number}.jpg": answer(jpeg(40, 30, number)) for number in range(2)}) as site:
        values = [("de", 7, 0.5, ["a", 1]), (None, "many", "NaN", None), ("fr", -1.0, 1e300, "x")]
        lines = [
            {"url": site.url(path), "text": path, **dict(zip(("lang", "id", "score", "tags"), row, strict=True))}
            for path, row in zip(EXPECTED, values, strict=True)
        ]
        dataset = replace(
            SAMPLE,
            name="mine",
            root=str(tmp_path),
            source="unused",
            layout=Layout(parquet_files=1, shards=1, embedding_files=1, rows_per_shard=10),
            resolve=site.resolve,
            dedup=DedupSettings(keep_columns=KEEP),
            images=replace(IMAGES, engine=engine),
        )
        publish_csvs(dataset, {"a.jsonl": "\n".join(map(json.dumps, lines)).encode()})
        (manifest,) = build_dedup_parquet(spark, dataset, Store.of(dataset), [0], quiet)
        assert manifest.details["notes"]["kept_value_invalid"] == 1
        outcome = ShardTask(dataset, ShardNumber(0)).run()
    assert (outcome.rows, outcome.successes) == (3, 2)
    deduplicated = pq.read_table(tmp_path / "mine" / "dedup_parquet" / "00.parquet")
    assert [str(kind) for kind in deduplicated.schema.types[-4:]] == ["string", "int64", "double", "string"]
    table = pq.read_table(tmp_path / "mine" / "image_shards" / "00000.parquet")
    assert table.schema.remove_metadata() == table_columns(dataset)
    assert {row["caption"]: kept_of(row) for row in table.to_pylist()} == EXPECTED
    assert "score" in metadata_schema(table.schema).names
    content = io.BytesIO((tmp_path / "mine" / "image_shards" / "00000.tar").read_bytes())
    with tarfile.open(fileobj=content) as archive:
        samples = [json.load(archive.extractfile(name)) for name in archive.getnames() if name.endswith(".json")]  # type: ignore[arg-type]
    assert {row["caption"]: kept_of(row) for row in samples} == {path: EXPECTED[path] for path in ("/0.jpg", "/1.jpg")}


def kept_of(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("lang", "id", "score", "tags"))
