"""`laion-assets search` imports only what its model needs, so that the first result takes seconds of CPU."""

import pickle
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from laion_assets.dataset.dataset import Dataset
from laion_assets_tests.stages.clip_embeddings.small_dataset import make_jpeg, sample_fields

NOT_IMPORTED = [
    "all_clip",
    "autofaiss",
    "clip",
    "clip_retrieval",
    "cv2",
    "dagster",
    "img2dataset",
    "matplotlib",
    "multilingual_clip",
    "pandas",
    "pyspark",
    "scipy",
    "sentence_transformers",
    "sklearn",
    "sympy",
    "torch._dynamo",
    "transformers",
    "wandb",
    "webdataset",
]
MAX_CPU_S = 12.0
"""Three times the 4 s that a search on the sample may take: machines under test differ, and share their caches."""
SEARCH = """
import pickle, sys
from pathlib import Path
from laion_assets.cli import cli
from laion_assets.dataset.built_in import BUILT_IN
BUILT_IN["small"] = pickle.loads(Path(sys.argv[1]).read_bytes())
cli(["search", "--dataset", "small", "a red circle", "--k", "3"], standalone_mode=False)
print("imported:", *(name for name in sys.argv[2:] if name in sys.modules))
"""


@pytest.fixture
def pickled(sample_model_dataset: Dataset, tmp_path: Path) -> str:
    path = tmp_path / "dataset.pickle"
    path.write_bytes(pickle.dumps(sample_model_dataset))
    return str(path)


def test_a_search_imports_no_package_that_the_sample_model_does_not_need(pickled: str) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-c", SEARCH, pickled, *NOT_IMPORTED]
    ended = subprocess.run(command, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert ended.returncode == 0, ended.stderr
    assert "  1. " in ended.stdout
    assert ended.stdout.splitlines()[-1] == "imported:"
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < MAX_CPU_S


def test_the_command_searches_by_an_image_file(pickled: str, tmp_path: Path) -> None:
    (tmp_path / "query.jpg").write_bytes(make_jpeg(1_004))
    image = SEARCH.replace('"a red circle", "--k", "3"', '"--image", sys.argv[2], "--k", "1"')
    command = [sys.executable, "-c", image, pickled, str(tmp_path / "query.jpg")]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    similarity, key = ended.stdout.split()[1:3]
    assert float(similarity) > 0.99
    assert key == sample_fields(1, 4)["key"]
    neither = subprocess.run([*command[:2], SEARCH.replace('"a red circle", ', ""), pickled], capture_output=True)
    assert b"Give a text or --image FILE" in neither.stderr
