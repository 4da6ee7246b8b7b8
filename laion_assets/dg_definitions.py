"""All built-in datasets in one code location, for the command `dg`: it loads one module of a project.

`workspace.yaml` has one code location per dataset instead.
"""

import dagster as dg

from laion_assets.dataset.dataset import DATASETS
from laion_assets.orchestration.definitions import build_definitions


@dg.definitions
def all_datasets() -> dg.Definitions:
    """The definitions of every built-in dataset."""
    return dg.Definitions.merge(*(build_definitions(dataset) for dataset in DATASETS.values()))
