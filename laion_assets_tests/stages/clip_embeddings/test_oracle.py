"""clip-retrieval's own inference over the same tars with the same model returns the same vectors, row by row."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from laion_assets.dataset.dataset import Dataset
from laion_assets.stages.image_shards.handle import IMAGE_SHARDS
from laion_assets.store.store import Store
from laion_assets_tests.stages.clip_embeddings.small_dataset import model_name
from laion_assets_tests.stages.clip_embeddings.test_build import local

INFERENCE = """
import sys
from laion_assets_tests.stages.clip_embeddings.small_dataset import register
register()
from clip_retrieval.clip_inference.main import main
model, output, tars = sys.argv[1:]
main(input_dataset=tars, output_folder=output, input_format="webdataset", clip_model=model, enable_metadata=True,
     use_jit=False, batch_size=16, num_prepro_workers=0, write_batch_size=1000, output_partition_count=1,
     distribution_strategy="sequential", enable_wandb=False)
"""


def test_rows_equal_those_of_clip_retrieval_inference(built: Dataset, tmp_path: Path) -> None:
    store = Store.of(built)
    tars = store.address(f"{IMAGE_SHARDS}/{{00000..00001}}.tar")
    command = [sys.executable, "-c", INFERENCE, model_name(), str(tmp_path / "theirs"), tars]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    theirs = pd.read_parquet(tmp_path / "theirs/metadata/metadata_0.parquet")
    ours = pd.read_parquet(local(built, "metadata"))
    assert list(theirs["image_path"]) == list(ours["image_path"])
    assert set(theirs.columns) <= set(ours.columns)
    assert list(ours.columns[:2]) == list(theirs.columns[:2]) == ["image_path", "caption"]
    for column in theirs.columns:
        pd.testing.assert_series_equal(theirs[column], ours[column], check_dtype=False)
    for kind in ("img_emb", "text_emb"):
        expected = np.load(tmp_path / f"theirs/{kind}/{kind}_0.npy")
        found = np.load(local(built, kind))
        assert (expected.shape, expected.dtype) == (found.shape, found.dtype)
        assert (expected.astype(np.float32) * found.astype(np.float32)).sum(axis=1).min() >= 0.999
