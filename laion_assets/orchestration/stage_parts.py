"""What Dagster needs of a stage: its asset, IO manager, check and columns, imported by the stage's references."""

import importlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import AdoptionError
from laion_assets.stages.adoption import FindCandidates
from laion_assets.stages.registry import STAGES
from laion_assets.stages.source_changes import FindChanges, Observe
from laion_assets.stages.stage import Stage
from laion_assets.store.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

    from laion_assets.models.clip_model import ClipModel
    from laion_assets.orchestration.partition_io import PartitionIOManager

ModelLoader = Callable[[], "ClipModel"]
"""Returns the loaded model. The run's resource does, so that a GPU never holds two."""
Check = Callable[[Dataset, Store, int, ModelLoader], Iterator[str]]
"""Yields the problems of one partition, a sentence each, naming file, shard or row; nothing if there is none."""


def load_asset(stage: Stage, dataset: Dataset) -> Any:
    """Return the asset of a stage: a `dagster.AssetsDefinition`, or a source asset where others make the files."""
    return _load(stage.asset)(dataset)


def load_io_manager(stage: Stage, dataset: Dataset) -> "PartitionIOManager":
    """Return the IO manager of a stage."""
    return _load(stage.io_manager)(dataset)


def load_check(stage: Stage) -> Check:
    """Return the function that verifies a partition of a stage from its files."""
    return _load(stage.check)


def load_columns(stage: Stage, dataset: Dataset) -> "pa.Schema | None":
    """Return the Arrow schema of a stage's table, None if it has none."""
    return _load(stage.columns)(dataset) if stage.columns else None


def load_find_changes(stage: Stage) -> FindChanges:
    """Return the function that compares the source of a stage with its committed files."""
    return _load(stage.find_changes)


def load_observe(stage: Stage) -> Observe:
    """Return the function that records the files of others."""
    return _load(stage.observe)


def load_adoption(stage: Stage) -> "FindCandidates":
    """Return the function that verifies files of another program for a stage. Raises AdoptionError if it has none."""
    if not stage.adopt:
        able = ", ".join(each.name for each in STAGES if each.adopt)
        raise AdoptionError(f"Existing files cannot be adopted as {stage.name}. Choose from {able}.")
    return _load(stage.adopt)


def _load(reference: str) -> Any:
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
