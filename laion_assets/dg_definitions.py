"""All datasets in one code location, for the command `dg`: it loads one module of a project.

`workspace.yaml` has one code location per dataset instead.
"""

import dagster as dg

from laion_assets.dataset.settings.resolution import known_datasets
from laion_assets.orchestration.definitions import build_definitions


@dg.definitions
def all_datasets() -> dg.Definitions:
    """The definitions of every dataset, built in or declared in the settings file."""
    datasets = [dataset for dataset in known_datasets().values() if not dataset.parents]  # which have their sets
    return dg.Definitions.merge(*map(build_definitions, datasets))
