"""Embedding sets of the settings file: each is a dataset with its own model and the rest of its dataset's settings."""

import tomllib
from dataclasses import replace

import pytest

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.embedding_set import EmbeddingSet
from laion_assets.dataset.settings.resolution import Settings
from laion_assets.errors import LayoutError, SettingError
from laion_assets.stages.knn_indices.settings import IndexSettings

LAYOUT = "layout = { parquet_files = 4, shards = 8, embedding_files = 2, rows_per_shard = 50 }"
FILE = f"""
model = "ViT-B/16"
[sample]
model = "ViT-L/14"
[sample.embeddings]
batch_size = 7
[sample.index]
cores = 3
[sample.embedding_sets.small]
model = "open_clip:small/tag"
[sample.embedding_sets.small.index]
cores = 2
[dataset.mine]
{LAYOUT}
[dataset.mine.embedding_sets]
a = {{ model = "ViT-B/32" }}
b = {{ model = "ViT-B/32", search.max_k = 9 }}
"""


def settings_of(toml: str, **environment: str) -> Settings:
    return Settings(tomllib.loads(toml), "laion-assets.toml", environment)


def apply(settings: Settings, name: str) -> Dataset:
    return settings.apply(settings.datasets[name])


def test_a_set_is_a_dataset_with_its_own_model_and_groups_and_the_other_settings_of_its_dataset() -> None:
    settings = settings_of(FILE)
    assert [name for name in settings.datasets if "_" in name] == ["sample_small", "mine_a", "mine_b"]
    whole, small = apply(settings, "sample"), apply(settings, "sample_small")
    assert (whole.model, small.model) == ("ViT-L/14", "open_clip:small/tag")
    assert (whole.index.cores, small.index.cores) == (3, 2)
    assert whole.embeddings.batch_size == small.embeddings.batch_size == 7
    assert (small.layout, small.source, small.root, small.images) == (
        whole.layout, whole.source, whole.root, whole.images
    )  # fmt: skip
    assert small.search_report == whole.search_report
    assert (small.folder, small.own_folder, small.graph) == ("sample", "embedding_sets/small", "sample")
    assert apply(settings, "mine_b").search.max_k == 9
    assert apply(settings, "mine_a").search.max_k == apply(settings, "mine").search.max_k
    origins = {each.name: each.origin for each in settings.explain(settings.datasets["sample_small"])}
    assert origins["model"] == "laion-assets.toml [sample.embedding_sets.small.model]"
    assert origins["embeddings.batch_size"] == "laion-assets.toml [sample.embeddings.batch_size]"


def test_variables_name_the_set_and_the_model_of_the_dataset_never_reaches_it() -> None:
    for_others = settings_of(FILE, LAION_ASSETS_MODEL="x", LAION_ASSETS_SAMPLE_MODEL="y")
    assert apply(for_others, "sample").model == "y"
    assert apply(for_others, "sample_small").model == "open_clip:small/tag"
    own = settings_of(FILE, LAION_ASSETS_SAMPLE_SMALL_MODEL="z", LAION_ASSETS_SAMPLE_SMALL_INDEX_CORES="5")
    assert (apply(own, "sample_small").model, apply(own, "sample_small").index.cores) == ("z", 5)
    assert (apply(own, "sample").model, apply(own, "sample").index.cores) == ("ViT-L/14", 3)
    subset = own.datasets["sample_small"].subset(range(0, 2))
    assert (own.apply(subset).model, own.apply(subset).index.cores) == ("z", 5)
    assert for_others.apply(for_others.datasets["sample_small"].subset(range(0, 2))).model == "open_clip:small/tag"


def test_a_set_in_python_has_groups_of_its_own_and_the_file_may_change_them() -> None:
    mine = replace(
        SAMPLE,
        name="cats",
        embedding_sets=(EmbeddingSet("big", "ViT-L/14", index=IndexSettings(cores=4)), EmbeddingSet("two", "RN50")),
    )
    big = Settings({}, "x", {}).apply(mine.embedding_set("big"))
    assert (big.name, big.model, big.index.cores, big.embeddings) == ("cats_big", "ViT-L/14", 4, SAMPLE.embeddings)
    settings = settings_of("[cats.embedding_sets]\nbig = { index.cores = 6 }\nthree = { model = 'RN101' }")
    found = settings.apply(mine)
    assert [(each.name, each.model) for each in found.embedding_sets] == [
        ("big", "ViT-L/14"), ("two", "RN50"), ("three", "RN101")
    ]  # fmt: skip
    assert settings.apply(found.embedding_set("big")).index.cores == 6
    assert settings.apply(found.embedding_set("big")).model == "ViT-L/14"
    with pytest.raises(SettingError, match=r"Unknown embedding set 'small' of cats\. Choose from big, two"):
        mine.embedding_set("small")
    with pytest.raises(LayoutError, match=r"cats_big_00_00 is already a subset. Take a subset of cats_big"):
        big.subset(range(1)).subset(range(1))


SET = "sample.embedding_sets.small"


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (f"{SET} = {{ modle = 'x' }}", rf"\[{SET}\] sets modle. Did you mean model\?"),
        (f"{SET} = {{ model = 'x', images.threads = 3 }}", "sets images. An embedding set has only model, embeddings"),
        (f"{SET} = {{ model = 'x', index.core = 3 }}", rf"{SET}.index.core, .*Did you mean {SET}.index.cores"),
        (f"{SET} = {{ model = 'x', index = 3 }}", rf"{SET}.index: it must be a table"),
        (f"{SET} = {{ model = 'x', index.cores = 'a' }}", r"index.cores"),
        (f"{SET} = {{ index.cores = 3 }}", rf"\[{SET}\] has no model"),
        (f"{SET} = {{ model = 3 }}", "sets model to 3: it must be a text"),
        (f"{SET} = 'x'", "must be a table with at least a model"),
        ("sample.embedding_sets = 3", "must be a table for each embedding set"),
        ("sample.embedding_set.small.model = 'x'", r"Did you mean sample\.embedding_sets\.NAME\.model"),
        ("sample.embedding_sets.images.model = 'x'", "Invalid name of an embedding set of sample: 'images'"),
        ("sample.embedding_sets.'a b'.model = 'x'", "Invalid name of an embedding set of sample: 'a b'"),
        (f"{SET}.model = 'x'\nsample.embedding_sets.Small.model = 'x'", "the names small and Small"),
        (f"{SET}.model = 'x'\nsample_small.model = 'x'", rf"sample_small is an embedding set.*\[{SET}\]"),
        (f"{SET}.model = 'x'\n[dataset.sample_small]\n{LAYOUT}", "the dataset name sample_small is taken"),
        (f"[dataset.mine]\n{LAYOUT}\n[dataset.mine.embedding_sets]\na.modle = 'x'", r"\[dataset.mine.embedding_sets.a"),
    ],
)
def test_a_wrong_declaration_is_refused_with_its_place(toml: str, message: str) -> None:
    with pytest.raises(SettingError, match=message):
        apply(settings_of(toml), "sample_small" if "cores = 'a'" in toml else "sample")


def test_a_variable_that_would_change_shared_files_for_one_set_is_refused() -> None:
    for owner in ("SAMPLE_SMALL", "SAMPLE_SMALL_00_01"):
        settings = settings_of(FILE, **{f"LAION_ASSETS_{owner}_IMAGES_THREADS": "3"})
        with pytest.raises(SettingError, match="Set LAION_ASSETS_SAMPLE_IMAGES_THREADS"):
            apply(settings, "sample")
