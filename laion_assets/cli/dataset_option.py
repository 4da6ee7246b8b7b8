"""The option `--dataset`, shared by the commands: a declared dataset, or a subset of one."""

from collections.abc import Callable
from typing import Any

import click

from laion_assets.cli.output import echo
from laion_assets.dataset.dataset import DATASETS, Dataset
from laion_assets.dataset.settings.resolution import configured
from laion_assets.errors import LayoutError


class DatasetName(click.ParamType):
    """A dataset's name, or NAME:FIRST..LAST for the subset of its parquet files FIRST to LAST."""

    name = "dataset"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name as it was given. Fails for an unknown dataset and for parquet files that it does not have."""
        try:
            declared(value)
        except KeyError:
            self.fail(f"{value!r} is no dataset: there are {', '.join(DATASETS)}.", param, ctx)
        except ValueError:
            self.fail(f"{value!r} is no subset such as {value.partition(':')[0]}:0..1.", param, ctx)
        except LayoutError as error:
            self.fail(str(error), param, ctx)
        return value

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """What the help shows."""
        return f"[{'|'.join(DATASETS)}][:FIRST..LAST]"


def dataset_option(*, required: bool = False, default: str | None = "sample") -> Callable[[Any], Any]:
    """`--dataset NAME`, one of the declared datasets or a subset of one."""
    return click.option(
        "--dataset",
        "-d",
        "name",
        type=DatasetName(),
        required=required,
        default=None if required else default,
        show_default=default is not None,
        help="Which dataset; with :FIRST..LAST only these parquet files of it and what is made of them.",
    )


def declared(name: str) -> Dataset:
    """The dataset or subset of that name. Raises KeyError, ValueError, LayoutError."""
    whole, colon, span = name.partition(":")
    dataset = DATASETS[whole]
    if not colon:
        return dataset
    first, _, last = span.partition("..")
    return dataset.subset(range(int(first), int(last or first) + 1))


def chosen(name: str) -> Dataset:
    """The dataset of that name with its settings resolved."""
    return configured(declared(name))


def print_root(dataset: Dataset) -> None:
    """Print to stderr which folder is used, so that output for scripts stays clean. Raises SettingError for a file."""
    where = f"{dataset.root.rstrip('/')}/{dataset.folder}"
    own = f" (embeddings and indices in subsets/{dataset.name})" if dataset.part_of else ""
    echo(f"root: {where}{own}", dim=True, err=True)
    from laion_assets.orchestration.writable_folders import require_folder

    require_folder(dataset)
