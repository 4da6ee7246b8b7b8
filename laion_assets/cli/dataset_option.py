"""The option `--dataset` of the commands: a declared dataset, an embedding set, or a subset of one."""

import difflib
from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import CompletionItem

from laion_assets.cli.output import echo
from laion_assets.dataset.built_in import BUILT_IN
from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.settings.declared import ROWS, TABLE
from laion_assets.dataset.settings.resolution import DEFAULT_FILE, known_datasets, resolve_settings
from laion_assets.errors import LayoutError, SettingError
from laion_assets.plain_text import one_line


class DatasetName(click.ParamType):
    """A dataset name, or NAME:FIRST..LAST for the subset of its parquet files FIRST to LAST."""

    name = "dataset"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name unchanged. Fails for an unknown dataset and for parquet files that it does not have."""
        try:
            parse_dataset(value)
        except KeyError:
            known, own = known_datasets(), value.partition(":")[0]
            near = difflib.get_close_matches(own, known, 1)
            self.fail(
                f"Unknown dataset {value!r}.{f' Did you mean {near[0]}?' if near else ''} Choose from "
                f"{', '.join(known)}, or declare it in {DEFAULT_FILE}: [{TABLE}.{own}] with a source and {ROWS}, its "
                "number of rows (`laion-assets init` does it).",
                param,
                ctx,
            )
        except ValueError:
            name = value.partition(":")[0]
            self.fail(
                f"Invalid subset {value!r}. Expected NAME:FIRST..LAST with numbers of parquet files, for example "
                f"{name}:0..1.",
                param,
                ctx,
            )
        except LayoutError as error:
            self.fail(str(error), param, ctx)
        return value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the names that begin with the typed text, each with its description."""
        try:
            known = known_datasets()
        except SettingError:
            known = BUILT_IN
        return [
            CompletionItem(name, help=one_line(dataset.description))
            for name, dataset in known.items()
            if name.startswith(incomplete)
        ]

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        """Return the placeholder that the help shows."""
        return f"[{'|'.join(_names_for_help())}][:FIRST..LAST]"


def _names_for_help() -> list[str]:
    """Return the names of all datasets. A settings file with an error must not keep the help from being shown."""
    try:
        return list(known_datasets())
    except SettingError:
        return list(BUILT_IN)


def dataset_option(*, required: bool = False, default: str | None = "sample") -> Callable[[Any], Any]:
    """Build the option `--dataset NAME`: a declared dataset or a subset of one."""
    return click.option(
        "--dataset",
        "-d",
        "name",
        type=DatasetName(),
        required=required,
        default=None if required else default,
        show_default=default is not None,
        help="Dataset name. Add :FIRST..LAST to use only these parquet files and what is built from them.",
    )


def parse_dataset(name: str) -> Dataset:
    """Return the declared dataset or subset of that name, without settings.

    Raises KeyError for an unknown dataset, ValueError for a malformed range, LayoutError for files it does not have,
    SettingError for a settings file with an error.
    """
    whole, colon, files = name.partition(":")
    dataset = known_datasets()[whole]
    if not colon:
        return dataset
    first, _, last = files.partition("..")
    return dataset.subset(range(int(first), int(last or first) + 1))


def load_dataset(name: str) -> Dataset:
    """Return the dataset of that name with its settings resolved. Raises SettingError."""
    return resolve_settings(parse_dataset(name))


def print_root(dataset: Dataset) -> None:
    """Print the folder in use to stderr, so that stdout stays clean for scripts. Raises SettingError for a file."""
    where = f"{dataset.root.rstrip('/')}/{dataset.folder}"
    own = f" (embeddings and indices in {dataset.own_folder})" if dataset.own_folder else ""
    echo(f"root: {where}{own}", dim=True, err=True)
    from laion_assets.orchestration.writable_folders import require_folder

    require_folder(dataset)
