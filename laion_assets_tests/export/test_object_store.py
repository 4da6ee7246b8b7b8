"""An export to an object store has the bytes of one to a local folder, and is continued."""

from pathlib import Path

import fsspec
import pytest

from laion_assets.errors import ExportError
from laion_assets.export.request import ExportRequest
from laion_assets.export.run import plan_export, write_export
from laion_assets.store.store import Store
from laion_assets_tests.stages.clip_embeddings.small_dataset import built_root, small_dataset


def _objects(url: str) -> dict[str, bytes]:
    fs, base = fsspec.core.url_to_fs(url)
    fs.invalidate_cache()
    return {path.removeprefix(f"{base}/"): fs.cat_file(path) for path in fs.find(base)}


def test_an_export_to_a_bucket_is_continued_and_has_the_same_bytes(
    object_store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, request = small_dataset(built_root()), ExportRequest("json", rows_per_file=15)
    write_export(plan_export(dataset, request), str(tmp_path / "local"))
    expected = {
        str(path.relative_to(tmp_path / "local")): path.read_bytes()
        for path in (tmp_path / "local").rglob("*")
        if path.is_file()
    }
    url = f"{object_store}/exports/small"
    put, puts = Store.move_all_in, 0

    def fail_later(store: Store, sources: object) -> None:
        nonlocal puts
        puts += 1
        if puts > 1:
            raise OSError("the network is down")
        put(store, sources)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(Store, "move_all_in", fail_later)
        with pytest.raises(OSError, match="network is down"):
            write_export(plan_export(dataset, request), url, threads=1)
    left = _objects(url)
    assert "recipe.json" not in left
    assert {name: content for name, content in left.items() if name.startswith("rows/")} == {
        "rows/00000.jsonl": expected["rows/00000.jsonl"]
    }
    report = write_export(plan_export(dataset, request), url)
    assert report.resumed == 1
    assert _objects(url) == expected
    with pytest.raises(ExportError, match="another recipe"):
        write_export(plan_export(dataset, ExportRequest("csv")), url)
