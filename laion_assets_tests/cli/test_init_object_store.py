"""`laion-assets init` reads files of an object store."""

from collections.abc import Sequence
from pathlib import Path

import fsspec
import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout
from laion_assets.inspection.inspection import inspect_place
from laion_assets.inspection.table_sample import Choices
from laion_assets_tests.inspection.forms import FORMS

ROWS = [(f"http://photos.test/{n}.jpg", f"caption {n}") for n in range(40)]


@pytest.mark.parametrize("form", ["parquet", "pipe_csv", "json_lines"])
def test_files_of_a_bucket_are_inspected_in_place(form: str, object_store: str, tmp_path: Path) -> None:
    FORMS[form](tmp_path / "pairs", ROWS)
    place = f"{object_store}/{form}"
    fsspec.filesystem("s3").put(f"{tmp_path}/pairs", place, recursive=True)
    layout = Layout(parquet_files=1, shards=1, embedding_files=1, rows_per_shard=1)
    base = Dataset(name="mine", description="", layout=layout, root=str(tmp_path))

    def take_first(question: str, names: Sequence[str]) -> None:
        return None

    found = inspect_place(base, place, Choices(), take_first)
    assert (found.row_count.rows, found.row_count.error) == (40, 0.0)
    assert place in (found.dataset.source, *found.dataset.published)
    assert all(file.url.startswith("s3://") for file in found.files.files)
    some = inspect_place(base, f"{place}/*.*", Choices(), take_first)
    assert some.row_count.rows == 40
