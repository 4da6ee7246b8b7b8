"""The states of the partitions of a stage."""

from typing import TYPE_CHECKING

from laion_assets.api.datasets import load_dataset
from laion_assets.api.runs import select_stages
from laion_assets.dataset.dataset import Dataset

if TYPE_CHECKING:
    from laion_assets.stages.status import PartitionState


def read_status(dataset: Dataset | str, stage: str) -> "tuple[PartitionState, ...]":
    """Return the state of each partition of a stage, in order, from the manifests.

    Raises SettingError for an unknown stage.
    """
    from laion_assets.stages.status import DatasetStatus

    dataset = load_dataset(dataset)
    (name,) = select_stages(dataset, [stage])
    return tuple(DatasetStatus(dataset).states(name))
