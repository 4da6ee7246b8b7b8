"""`laion-assets trace`."""

import click

from laion_assets.cli.dataset_option import dataset_option, load_dataset, print_root
from laion_assets.cli.output import echo, echo_json
from laion_assets.store.store import Store


@click.command(short_help="Locate a row by its uid.")
@click.argument("uid")
@dataset_option()
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the location of the row, and its values.")
def trace(uid: str, name: str, as_json: bool) -> None:
    """Locate the row with this UID: parquet file, shard, sample key, source file and row.

    Reads one parquet footer and one row group, for any size of the dataset. Exits with status 1 if no row has
    this uid.
    """
    from laion_assets.stages.dedup_parquet.uid_lookup import find_uid

    dataset = load_dataset(name)
    found = find_uid(dataset, Store.of(dataset), uid)
    if as_json:
        echo_json(found and {**found.__dict__})
    else:
        print_root(dataset)
        if found is None:
            echo(f"{dataset.name} has no row with uid {uid}")
        else:
            layout = dataset.layout
            echo(f"dedup_parquet  {layout.parquet_key(found.parquet)}, row group of shard {found.shard:05d}")
            echo(f"image_shards   {layout.shard_key(found.shard)}, sample {found.key}")
            for column, value in found.values.items():
                echo(f"{column:14} {value}")
    if found is None:
        raise click.exceptions.Exit(1)
