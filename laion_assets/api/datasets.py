"""Datasets by name, with their settings."""

from laion_assets.dataset.dataset import DATASETS, Dataset
from laion_assets.dataset.settings.resolution import resolve_settings
from laion_assets.errors import SettingError


def load_dataset(dataset: Dataset | str) -> Dataset:
    """Return a dataset with the settings file and the environment applied.

    `dataset` is a Dataset, or the name of a built-in one: `laion400m`, `sample` or `rehearsal`. The other functions
    apply the settings themselves. Raises SettingError for an unknown name and for an invalid setting.
    """
    if isinstance(dataset, str):
        if dataset not in DATASETS:
            raise SettingError(f"Unknown dataset {dataset!r}. Choose from {', '.join(DATASETS)}, or pass a Dataset.")
        dataset = DATASETS[dataset]
    return resolve_settings(dataset)
