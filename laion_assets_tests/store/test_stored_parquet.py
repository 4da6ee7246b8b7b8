"""A damaged parquet file of a stage is refused by name, by every reader."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.identity import compute_uid
from laion_assets.errors import IntegrityError
from laion_assets.stages.dedup_parquet.handle import DedupParquet
from laion_assets.stages.dedup_parquet.uid_lookup import find_uid
from laion_assets.stages.statistics.build import build_statistics
from laion_assets.stages.statistics.handle import DATASET_STATISTICS
from laion_assets.store.manifest import manifest_path
from laion_assets.store.store import Store
from laion_assets_tests.stages.image_shards.shards import dataset_of

ROWS = [(f"http://a.test/{number}.jpg", f"a caption of row {number}") for number in range(40)]
UID = compute_uid(*ROWS[5])
AGAIN = r"00\.parquet .*Materialize partition 00 of dedup_parquet again"
Use = Callable[[Dataset], object]
USES: dict[str, Use] = {
    "trace": lambda dataset: find_uid(dataset, Store.of(dataset), UID),
    "a shard's rows": lambda dataset: DedupParquet.of(dataset).shard_rows(0, DedupParquet.of(dataset).manifest(0)),
    "statistics": lambda d: build_statistics(d, Store.of(d), DATASET_STATISTICS, lambda line: None),
}


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    found: Dataset = dataset_of(tmp_path, sorted(ROWS, key=lambda row: compute_uid(*row)), {})
    return found


def path_of(dataset: Dataset) -> Path:
    found = Store.of(dataset).local_path("dedup_parquet/00.parquet")
    assert found is not None
    return found


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_footer(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-400:-8] = b"\xff" * 392
    path.write_bytes(content)


def flip_end(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4] + b"PAR9")


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("damage", [truncate, flip_footer, flip_end, Path.unlink], ids=lambda damage: damage.__name__)
def test_damaged_parquet_file_is_named(dataset: Dataset, use: str, damage: Callable[[Path], None]) -> None:
    damage(path_of(dataset))
    with pytest.raises(IntegrityError, match=AGAIN) as raised:
        USES[use](dataset)
    assert "\n" not in str(raised.value)


def test_altered_caption_is_refused_by_its_uid(dataset: Dataset) -> None:
    found = find_uid(dataset, Store.of(dataset), UID)
    assert found is not None
    assert found.values["TEXT"] == "a caption of row 5"
    path = path_of(dataset)
    table = pq.read_table(path)
    texts = [text.replace("row 5", "row 6") for text in table.column("TEXT").to_pylist()]
    changed = table.set_column(table.schema.names.index("TEXT"), "TEXT", pa.array(texts))
    pq.write_table(changed.cast(table.schema), path)
    manifest = Store.of(dataset).local_path(manifest_path("dedup_parquet", "00"))
    assert manifest is not None
    fields = json.loads(manifest.read_bytes())
    fields["files"][0]["size"] = path.stat().st_size
    manifest.write_text(json.dumps(fields), encoding="utf-8")
    with pytest.raises(IntegrityError, match="is not that of its url and caption"):
        find_uid(dataset, Store.of(dataset), UID)
