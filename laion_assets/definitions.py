"""The code locations of `workspace.yaml`: one for each built-in dataset, and one for those of the settings file.

Importing this module imports neither torch, pyspark, img2dataset nor faiss: a code location loads in seconds.
"""

import dagster as dg

from laion_assets.dataset.built_in import BUILT_IN, LAION400M, REHEARSAL, SAMPLE
from laion_assets.dataset.settings.resolution import known_datasets
from laion_assets.orchestration.definitions import build_definitions

__all__ = ["build_definitions", "declared", "laion400m", "rehearsal", "sample"]


@dg.definitions
def laion400m() -> dg.Definitions:
    """The code location `laion400m`."""
    return build_definitions(LAION400M)


@dg.definitions
def sample() -> dg.Definitions:
    """The code location `sample`."""
    return build_definitions(SAMPLE)


@dg.definitions
def rehearsal() -> dg.Definitions:
    """The code location `rehearsal`."""
    return build_definitions(REHEARSAL)


@dg.definitions
def declared() -> dg.Definitions:
    """The code location `declared`: the datasets that the settings file declares, in `[dataset.NAME]`."""
    own = [dataset for name, dataset in known_datasets().items() if name not in BUILT_IN and not dataset.parents]
    return dg.Definitions.merge(*(build_definitions(dataset) for dataset in own))
