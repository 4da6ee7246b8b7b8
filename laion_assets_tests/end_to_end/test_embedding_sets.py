"""Two models of one dataset, built by one Dagster graph from the same shards, and searched and served side by side."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from laion_assets import Searcher, read_embeddings
from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.embedding_set import EmbeddingSet
from laion_assets.errors import ModelError
from laion_assets.models.loading import load_model
from laion_assets.orchestration.declaration import asset_key
from laion_assets.orchestration.definitions import build_definitions
from laion_assets.orchestration.runs import materialize_stage
from laion_assets.stages.clip_embeddings.build import build_embedding_file
from laion_assets.stages.knn_indices.build import build_indices
from laion_assets.stages.knn_indices.inputs import CLIP_EMBEDDINGS, read_coherent_embeddings
from laion_assets.stages.status import DatasetStatus
from laion_assets.store.manifest import read_manifest
from laion_assets.store.store import Store
from laion_assets_tests.models.tiny_models import hugging_face_siglip
from laion_assets_tests.server.running import Client, running_service
from laion_assets_tests.stages.clip_embeddings.small_dataset import (
    ROWS,
    commit_shard,
    commit_shards,
    make_jpeg,
    random_model,
    register,
    sample_fields,
    small_dataset,
)

OWN = ("clip_embeddings", "knn_indices", "search_report")
SIGLIP = "siglip"


def build(dataset: Dataset, *members: Dataset) -> dict[str, int]:
    """Run what is due of each member after its shards, in one graph; return the number of partitions that ran."""
    register()
    definitions, ran = build_definitions(dataset), {}
    with dg.instance_for_test() as instance:
        for member in members:
            for asset in OWN if member.set_name else OWN[:2]:
                report = materialize_stage(member, definitions, asset, instance)
                ran[asset_key(member, asset).to_user_string()] = report.ran
        checks = {check.name for check in definitions.asset_checks or [] for check in check.check_keys}
        assert checks == {"row_counts", "up_to_date"}
    return ran


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, dict[str, int]]:
    """The small dataset with its set `siglip`, both built from its shards, and what was run."""
    model = hugging_face_siglip(tmp_path_factory.mktemp("siglip"))
    plain = small_dataset(tmp_path_factory.mktemp("sets"))
    dataset = replace(
        plain,
        search_report=replace(plain.search_report, queries=("red", "blue tree")),
        embeddings=replace(plain.embeddings, files_per_run=2),
        embedding_sets=(EmbeddingSet(SIGLIP, model),),
    )
    commit_shards(dataset)
    return dataset, build(dataset, dataset, dataset.embedding_set(SIGLIP))


@pytest.fixture
def both(made: tuple[Dataset, dict[str, int]]) -> tuple[Dataset, Dataset]:
    """The dataset and its embedding set, to be read."""
    return made[0], made[0].embedding_set(SIGLIP)


@pytest.fixture
def copied(both: tuple[Dataset, Dataset], tmp_path: Path) -> tuple[Dataset, Dataset]:
    """A copy of both, to be changed."""
    shutil.copytree(both[0].root, tmp_path, dirs_exist_ok=True)
    dataset = replace(both[0], root=str(tmp_path))
    return dataset, dataset.embedding_set(SIGLIP)


@pytest.fixture(scope="module")
def client(made: tuple[Dataset, dict[str, int]]) -> Iterator[Client]:
    dataset = replace(made[0], search=replace(made[0].search, show=("UNLIKELY", "UNSURE", "NSFW")))
    with running_service(dataset, dataset.embedding_set(SIGLIP)) as running:
        yield running


def states(dataset: Dataset, asset: str) -> set[str]:
    return {f"{state.state} {state.reason}".strip() for state in DatasetStatus(dataset).states(asset)}


def test_each_has_its_own_embeddings_and_indices_of_the_same_rows(
    made: tuple[Dataset, dict[str, int]], both: tuple[Dataset, Dataset]
) -> None:
    assert made[1] == {
        **{"small/clip_embeddings": 2, "small/knn_indices": 1},
        **{"small_siglip/clip_embeddings": 2, "small_siglip/knn_indices": 1, "small_siglip/search_report": 1},
    }
    dataset, siglip = both
    folder = Path(dataset.root, "small", "embedding_sets", SIGLIP)
    assert {path.name for path in folder.iterdir()} == {*OWN, "manifests", "leases", "staging", "settings"}
    assert {path.name for path in (folder / "manifests").iterdir()} == {*OWN, "layout.json"}
    for number in (0, 1):
        ours, theirs = (read_embeddings(each, number) for each in both)
        assert ours.metadata["uid"].equals(theirs.metadata["uid"])
        assert (ours.images.shape[1], theirs.images.shape[1]) == (random_model().width, 32)
    for asset in OWN[:2]:
        assert states(dataset, asset) == states(siglip, asset) == {"complete"}
    assert states(siglip, "search_report") == {"complete"}
    assert states(dataset, "search_report") == {"missing not committed"}
    manifests = [read_manifest(Store.of(each), "knn_indices", "all") for each in both]
    models = [manifest.details["model"] for manifest in manifests if manifest]
    assert models[0] == random_model().identity
    assert models[1].startswith("hf_clip@")


def test_a_search_encodes_the_query_with_the_model_of_its_set(both: tuple[Dataset, Dataset], client: Client) -> None:
    assert client.get("/indices-list").json == ["small", "small_siglip"]
    listed = {each["name"]: each["model"] for each in client.get("/api/datasets").json["datasets"]}
    assert listed == {each.name: each.model for each in both}
    jpeg = make_jpeg(1000 + 3)  # shard 1, row 3
    uid = sample_fields(1, 3)["uid"]
    for dataset in both:
        with Searcher(dataset) as searcher:
            found = searcher.search(image=jpeg, k=3)
            text = searcher.search(text="red 1 0", k=70, modality="text")
            assert searcher.read_image(found[0]) == jpeg
        assert found[0].uid == uid
        assert found[0].similarity > 0.99
        assert next(each.similarity for each in text if each.caption == "red 1 0") > 0.99
        served = client.search("red 1 0", dataset=dataset.name, index="text", k=70, collapse=False).json
        near = {each["uid"]: each["similarity"] for each in served["results"]}
        expected = {each.uid: each.similarity for each in text}
        assert {uid: pytest.approx(value, abs=1e-3) for uid, value in expected.items() if uid in near} == near
        assert len(near) > 40
    assert client.search("red", dataset="small_other").status == 404


def test_two_models_never_mix(copied: tuple[Dataset, Dataset]) -> None:
    dataset, siglip = copied
    with pytest.raises(ModelError, match=r"0 of small_siglip requires the model hf_clip"):
        build_embedding_file(siglip, Store.of(siglip), 0, random_model(), lambda line: None)
    for each, other in (copied, copied[::-1]):
        with pytest.raises(ModelError, match=each.name):
            Searcher(replace(each, model=other.model))
    # Someone copies an embedding file of one set, with its manifest, into the other.
    own = Path(dataset.root, "small")
    for path in own.glob("**/clip_embeddings/**/*_1.*"):
        relative = path.relative_to(own)
        if relative.parts[0] == "clip_embeddings":
            shutil.copy(path, own / "embedding_sets" / SIGLIP / relative)
    manifest = Path("manifests", CLIP_EMBEDDINGS, "1.json")
    shutil.copy(own / manifest, own / "embedding_sets" / SIGLIP / manifest)
    assert states(siglip, CLIP_EMBEDDINGS) == {"complete", "stale settings changed"}
    with pytest.raises(ModelError, match="were built with different models"):
        read_coherent_embeddings(siglip, Store.of(siglip))


def test_another_model_of_the_set_makes_only_the_set_stale(copied: tuple[Dataset, Dataset]) -> None:
    dataset, siglip = copied
    other = replace(dataset, embedding_sets=(replace(dataset.embedding_sets[0], model=dataset.model),))
    changed = other.embedding_set(SIGLIP)
    assert states(changed, CLIP_EMBEDDINGS) == {"stale settings changed"}
    assert states(other, CLIP_EMBEDDINGS) == {"complete"}
    moved = replace(dataset, model=siglip.model)
    assert states(moved, CLIP_EMBEDDINGS) == {"stale settings changed"}
    assert states(moved.embedding_set(SIGLIP), CLIP_EMBEDDINGS) == {"complete"}


def test_a_removed_image_leaves_every_set(copied: tuple[Dataset, Dataset]) -> None:
    dataset, siglip = copied
    row = ROWS[1] - 1
    removed = sample_fields(1, row)["uid"]
    before = [Searcher(each).search(vector=np.ones(width), k=70) for each, width in zip(copied, (128, 32), strict=True)]
    assert all(removed in {result.uid for result in found} for found in before)
    commit_shard(dataset, 1, ROWS[1], failures=(row,))
    for each in copied:
        assert states(each, CLIP_EMBEDDINGS) == {"complete", "stale inputs changed"}
    for each, model in zip(copied, (random_model(), load_model(siglip.model, "cpu")), strict=True):
        assert build_embedding_file(each, Store.of(each), 0, model, lambda line: None).was_built
        assert build_indices(each, Store.of(each), lambda line: None).was_built
        assert states(each, "knn_indices") == {"complete"}
        with Searcher(each) as searcher:
            width = searcher.details.width
            assert removed not in {result.uid for result in searcher.search(vector=np.ones(width), k=70)}
