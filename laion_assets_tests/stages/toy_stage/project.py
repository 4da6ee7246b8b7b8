"""A code location of the tests: the tiny dataset with the toy stage. TINY_FOLDER is its folder."""

import os
from pathlib import Path

from laion_assets.definitions import build_definitions
from laion_assets.stages.dedup_parquet.stage import STAGE as DEDUP_PARQUET
from laion_assets.stages.registry import STAGES
from laion_assets_tests.stages.toy_stage.stage import STAGE
from laion_assets_tests.tiny_dataset import tiny_dataset

STAGES.insert(STAGES.index(DEDUP_PARQUET) + 1, STAGE)
defs = build_definitions(tiny_dataset(Path(os.environ["TINY_FOLDER"]), {}))
