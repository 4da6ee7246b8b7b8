"""The public API: what `import laion_assets` has, loads and refuses."""

import subprocess
import sys
from pathlib import Path

import pytest

import laion_assets
from laion_assets import Dataset, LaionAssetsError, State, load_dataset, materialize, preview_url, read_status
from laion_assets_tests.api.api_page import read_page, signature_of
from laion_assets_tests.tiny_dataset import served_dataset

HEAVY = ("torch", "pyspark", "img2dataset", "faiss", "autofaiss", "open_clip", "cv2", "pandas", "matplotlib")


def loaded_by(code: str, modules: tuple[str, ...]) -> list[str]:
    """Which of these modules a new process has imported after `code`."""
    code = f"import sys\n{code}\nprint(*[name for name in {modules!r} if name in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_importing_the_package_imports_nothing_else() -> None:
    assert loaded_by("import laion_assets", (*HEAVY, "dagster", "numpy", "pyarrow", "pydantic", "click")) == []


def test_using_every_name_imports_no_heavy_library() -> None:
    assert loaded_by("from laion_assets import *", HEAVY) == []


def test_every_name_is_there_once_and_listed() -> None:
    assert laion_assets.__all__ == sorted(laion_assets.__all__)
    assert len(set(laion_assets.__all__)) == 18
    assert set(laion_assets.__all__) <= set(dir(laion_assets))
    for name in laion_assets.__all__:
        assert getattr(laion_assets, name).__doc__
        assert getattr(laion_assets, name).__module__ == f"laion_assets.{laion_assets._MODULES[name]}"
    with pytest.raises(AttributeError, match="has no attribute 'materialise'"):
        laion_assets.materialise  # noqa: B018


def test_type_checkers_see_the_names_that_are_imported_lazily() -> None:
    source = Path(laion_assets.__file__).read_text("utf-8")
    seen = {
        name.strip(): line.split()[1].removeprefix("laion_assets.")
        for line in source.splitlines()
        if line.startswith("    from laion_assets.")
        for name in line.partition(" import ")[2].split(",")
    }
    assert seen == laion_assets._MODULES


def test_the_page_lists_exactly_the_public_names_with_their_signatures() -> None:
    page = {section.name: section.signature for section in read_page()}
    assert page == {name: signature_of(name, getattr(laion_assets, name)) for name in laion_assets.__all__}


def test_a_stage_is_materialized_and_its_status_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster_home"))
    with served_dataset(tmp_path) as dataset:
        assert [state.state for state in read_status(dataset, "raw_csv")] == [State.MISSING]
        reports = []
        done = materialize(dataset, stages=["raw_csv"], on_report=reports.append)
        assert done.dataset == dataset
        assert (done.stages, done.seconds) == (tuple(reports), reports[0].seconds)
        assert [(stage.asset, stage.partitions, stage.ran) for stage in done.stages] == [("raw_csv", 1, 1)]
        assert [state.state for state in read_status(dataset, "raw_csv")] == [State.COMPLETE]
        assert [stage.ran for stage in materialize(dataset, stages=["raw_csv"]).stages] == [0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"stages": ["image_shard"]}, "has no stage 'image_shard'. Choose from raw_csv, dedup_parquet"),
        ({"stages": "raw_csv"}, r"Pass a list of names: \['raw_csv'\]"),
        ({"stages": ["published_parquet"]}, "The dataset sample has no stage 'published_parquet'"),
        ({"partitions": range(0, 2)}, "Pass a range of consecutive partition numbers"),
        ({"stages": ["image_shards"], "partitions": range(0)}, "Pass a range of consecutive partition numbers"),
        ({"stages": ["image_shards"], "partitions": range(20, 30)}, r"has the partitions 0\.\.23, not 20\.\.29"),
        ({"stages": ["raw_csv"], "retry": "failed"}, r"Pass stages=\['image_shards'\] with it"),
        ({"stages": ["image_shards"], "retry": "sometimes"}, "sometimes"),
    ],
)
def test_arguments_that_are_not_allowed_are_named(
    arguments: dict[str, object], message: str, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster_home"))
    with pytest.raises(LaionAssetsError, match=message):
        materialize(dataset, **arguments)  # type: ignore[arg-type]


def test_settings_of_the_environment_apply_to_a_loaded_dataset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAION_ASSETS_MODEL", "ViT-L/14")
    assert load_dataset("sample").model == "ViT-L/14"
    with pytest.raises(LaionAssetsError, match="Unknown dataset 'samples'"):
        load_dataset("samples")


def test_numbers_outside_of_the_layout_and_missing_partitions_are_named(dataset: Dataset) -> None:
    for read, bad, expected in (
        (laion_assets.read_rows, 24, "Invalid shard 24: expected 0 to 23"),
        (lambda *given: list(laion_assets.read_samples(*given)), -1, "Invalid shard -1: expected 0 to 23"),
        (laion_assets.read_embeddings, 6, "Invalid embedding file 6: expected 0 to 5"),
    ):
        with pytest.raises(LaionAssetsError, match=expected):
            read(dataset, bad)
        with pytest.raises(LaionAssetsError, match=r"materialize it first"):
            read(dataset, 0)
    with pytest.raises(LaionAssetsError, match="No statistics of sample are committed"):
        laion_assets.read_statistics(dataset)


def test_a_preview_of_a_sample_page_reaches_the_site_of_the_sample(dataset: Dataset) -> None:
    from laion_assets.sample.crawl import crawl_pages

    page = next(page for page in crawl_pages() if page.expected == "success" and " " not in page.url)
    preview = preview_url(page.url, dataset)
    assert (preview.status, preview.width, len(preview.hops)) == ("success", 256, 1)
    assert preview_url(page.url).reason != "success"
