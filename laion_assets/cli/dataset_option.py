"""The option `--dataset`, shared by the commands."""

from collections.abc import Callable
from typing import Any

import click

from laion_assets.datasets import DATASETS, Dataset
from laion_assets.settings.resolution import configured


def dataset_option(*, required: bool = False, default: str | None = "sample") -> Callable[[Any], Any]:
    """`--dataset NAME`, one of the declared datasets."""
    return click.option(
        "--dataset",
        "-d",
        "name",
        type=click.Choice(sorted(DATASETS)),
        required=required,
        default=None if required else default,
        show_default=default is not None,
        help="Which dataset.",
    )


def chosen(name: str) -> Dataset:
    """The dataset of that name with its settings resolved."""
    return configured(DATASETS[name])


def print_root(dataset: Dataset) -> None:
    """Say on stderr which folder is used, so that output for scripts stays clean."""
    click.secho(f"root: {dataset.root.rstrip('/')}/{dataset.name}", dim=True, err=True)
