"""Adopting files of other programs."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from laion_assets.api.datasets import load_dataset
from laion_assets.api.runs import select_stages
from laion_assets.dataset.dataset import Dataset

if TYPE_CHECKING:
    from laion_assets.orchestration.adoption import AdoptionReport


def adopt(
    dataset: Dataset | str,
    stage: str,
    folder: str | os.PathLike[str],
    *,
    copy: bool = False,
    dry_run: bool = False,
    log: Callable[[str], None] | None = None,
) -> "AdoptionReport":
    """Make shards of img2dataset or embeddings of clip-retrieval in a local folder partitions of a stage.

    `stage` is the name of the stage that makes such files. Every file is verified first. If one does not fit, `refused`
    of the report names it with the reason, and nothing is changed. Large files become hard links where the disk allows
    it; `copy` always copies them. `dry_run` only verifies. `log` is called with lines of progress. Raises AdoptionError
    for a folder without such files, SettingError for an unknown stage, ModelError if the dataset's model cannot be
    loaded.
    """
    from laion_assets.orchestration.adoption import adopt as run

    dataset = load_dataset(dataset)
    (name,) = select_stages(dataset, [stage])
    return run(dataset, name, folder, copy=copy, dry_run=dry_run, log=log or (lambda line: None))
