"""The code locations of the Dagster UI: one for each built-in dataset, and one for those of the settings file.

`workspace.yaml` of a checkout has the same ones.
"""

import json
from pathlib import Path

from laion_assets.dataset.built_in import BUILT_IN
from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.settings.resolution import known_datasets

MODULE = "laion_assets.definitions"
"""The module whose attributes are the code locations."""
DECLARED = "declared"
"""The code location of all datasets that the settings file declares."""
WORKSPACE = "laion-assets-workspace.yaml"
"""The file of `laion-assets dev` in the folder of the Dagster instance."""


def location_name(dataset: Dataset) -> str:
    """Return the name of the code location that has a dataset.

    An embedding set is in that of its dataset. A dataset that is neither built in nor in the settings file is in a code
    location of the user, whose name is not known: returns the name of the dataset.
    """
    if dataset.graph in BUILT_IN or dataset.graph not in known_datasets():
        return dataset.graph
    return DECLARED


def known_locations() -> list[str]:
    """Return the code locations of all known datasets. Raises SettingError for a wrong settings file."""
    return list(dict.fromkeys(location_name(dataset) for dataset in known_datasets().values()))


def write_workspace(home: Path) -> Path:
    """Write the workspace of all known datasets to the folder of the Dagster instance, and return its path."""
    modules = [{"module_name": MODULE, "attribute": name, "location_name": name} for name in known_locations()]
    path = home / WORKSPACE
    content = {"load_from": [{"python_module": module} for module in modules]}
    path.write_text(
        f"# Written by `laion-assets dev` at each start.\n{json.dumps(content, indent=2)}\n", encoding="utf-8"
    )
    return path
