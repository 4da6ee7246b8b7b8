"""The list of stages, in the order of the pipeline."""

from enum import StrEnum

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout
from laion_assets.stages.clip_embeddings.stage import STAGE as CLIP_EMBEDDINGS
from laion_assets.stages.dedup_parquet.stage import STAGE as DEDUP_PARQUET
from laion_assets.stages.image_shards.stage import STAGE as IMAGE_SHARDS
from laion_assets.stages.knn_indices.stage import STAGE as KNN_INDICES
from laion_assets.stages.published_parquet.stage import STAGE as PUBLISHED_PARQUET
from laion_assets.stages.raw_csv.stage import STAGE as RAW_CSV
from laion_assets.stages.search_report.stage import STAGE as SEARCH_REPORT
from laion_assets.stages.stage import Stage
from laion_assets.stages.statistics.stage import DATASET_STAGE as DATASET_STATISTICS
from laion_assets.stages.statistics.stage import IMAGE_STAGE as IMAGE_STATISTICS

STAGES: list[Stage] = [
    RAW_CSV,
    PUBLISHED_PARQUET,
    DEDUP_PARQUET,
    DATASET_STATISTICS,
    IMAGE_SHARDS,
    IMAGE_STATISTICS,
    CLIP_EMBEDDINGS,
    KNN_INDICES,
    SEARCH_REPORT,
]
"""Every stage. To add one, add a line."""

AssetName = StrEnum("AssetName", {stage.name.upper(): stage.name for stage in STAGES})  # type: ignore[misc]
"""The names of the assets."""


def find_stage(name: str) -> Stage:
    """Return a stage by its name. Raises KeyError."""
    for stage in STAGES:
        if stage.name == name:
            return stage
    raise KeyError(name)


def list_stages(dataset: Dataset) -> list[Stage]:
    """The stages that a dataset has, in the order of the pipeline."""
    return [stage for stage in STAGES if stage.applies_to(dataset)]


def stage_names(dataset: Dataset) -> list[str]:
    """Names of the stages that a dataset has, in the order of the pipeline."""
    return [stage.name for stage in list_stages(dataset)]


def pipeline_names(dataset: Dataset) -> list[str]:
    """Names of the stages that the next stage waits for: all but those that summarize."""
    return [stage.name for stage in list_stages(dataset) if not stage.reads_incomplete_input]


def next_stage(name: str, dataset: Dataset) -> Stage:
    """Return the stage that reads the partitions of a stage and waits for all of them. Raises KeyError for the last."""
    for stage in list_stages(dataset):
        if not stage.reads_incomplete_input and stage.upstream and stage.upstream(dataset).name == name:
            return stage
    raise KeyError(name)


def partition_paths(name: str, key: str, layout: Layout) -> tuple[str, ...]:
    """Paths of a partition's files, relative to the store; `NAME_parts` names a stage's partial results."""
    if name.endswith("_parts"):
        return (find_stage(name.removesuffix("_parts")).part_path(key),)
    return find_stage(name).handle.paths(layout, key)
