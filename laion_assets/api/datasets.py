"""Datasets by name, with their settings."""

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.settings.resolution import known_datasets, resolve_settings
from laion_assets.errors import SettingError


def load_dataset(dataset: Dataset | str) -> Dataset:
    """Return a dataset with the settings file and the environment applied.

    `dataset` is a Dataset, or the name of one that is built in (`laion400m`, `sample` or `rehearsal`) or declared in
    the settings file. The other functions apply the settings themselves. Raises SettingError for an unknown name and
    for an invalid setting.
    """
    if isinstance(dataset, str):
        known = known_datasets()
        if dataset not in known:
            raise SettingError(
                f"Unknown dataset {dataset!r}. Choose from {', '.join(known)}, declare it in the settings file, or "
                "pass a Dataset."
            )
        dataset = known[dataset]
    return resolve_settings(dataset)
