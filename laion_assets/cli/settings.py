"""`laion-assets settings`."""

import click

from laion_assets.cli.dataset_option import dataset_option, parse_dataset
from laion_assets.cli.output import echo, echo_json
from laion_assets.dataset.settings.names import FILE_VARIABLE
from laion_assets.dataset.settings.reference import reference
from laion_assets.dataset.settings.resolution import Settings
from laion_assets.orchestration.instance import DEFAULT_HOME, HOME_VARIABLE
from laion_assets.processes import sandbox as decoder_sandbox


@click.command(short_help="Print every setting, its value and its origin.")
@dataset_option(default=None)
@click.option(
    "--json", "as_json", is_flag=True, help="Print JSON: value, origin, unit, allowed values and help of each setting."
)
@click.option("--markdown", is_flag=True, help="Print the reference of all settings, docs/settings.md.")
def settings(name: str | None, as_json: bool, markdown: bool) -> None:
    """Print every setting, its value, its origin and the allowed values.

    A setting is looked up in this order, and the first value found is used. For images.threads of the dataset sample:

    \b
      LAION_ASSETS_SAMPLE_IMAGES_THREADS   in the environment
      LAION_ASSETS_IMAGES_THREADS          in the environment
      [sample.images] threads              in the settings file (./laion-assets.toml); for a dataset that the
                                           file declares, also [dataset.NAME.images]
      [images] threads                     in the settings file
      the default of the dataset
    """
    if markdown:
        for line in reference().splitlines():
            echo(line)
        return
    loaded = Settings.load()
    datasets = [parse_dataset(name)] if name else list(loaded.datasets.values())
    explained = {dataset.name: (loaded.apply(dataset), loaded.explain(dataset)) for dataset in datasets}
    if as_json:
        content = {
            key: {
                one.name: {
                    "value": "inf" if one.value == float("inf") else one.value,  # JSON has no infinity
                    "origin": one.origin,
                    "unit": one.unit,
                    "allowed": one.allowed,
                    "help": one.help,
                }
                for one in found
            }
            for key, (_, found) in explained.items()
        }
        echo_json(content)
        return
    exists = "found" if loaded.file else "not found"
    echo(f"settings file: {loaded.file_name} ({exists}; set {FILE_VARIABLE} to use another)", dim=True)
    echo(f"Dagster instance: {HOME_VARIABLE}, or ./{DEFAULT_HOME}", dim=True)
    echo(f"decoder sandbox on this machine: {decoder_sandbox.available()}", dim=True)
    for variable, owner in loaded.variables_of_others(datasets[0]).items():
        echo(f"{variable}: ignored, because the dataset {owner} is unknown to this command", fg="yellow")
    for key, (dataset, found) in explained.items():
        echo()
        parts = (dataset.root.rstrip("/"), dataset.folder, dataset.own_folder)
        echo(f"{key}  (files in {'/'.join(filter(None, parts))})", bold=True)
        for one in found:
            value = f"{one.value} {one.unit}".strip() if one.value not in ("", {}, (), None) else "-"
            changed = not one.origin.startswith("dataset ")
            echo(f"  {one.name:<32} {value:<34} {one.origin}", fg="cyan" if changed else None)
            allowed = f" ({one.allowed})" if one.allowed else ""
            echo(f"  {'':<32} {one.help}{allowed}", dim=True)
