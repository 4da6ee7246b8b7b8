"""`laion-assets trace`."""

from typing import Any

import click

from laion_assets.cli.dataset_option import dataset_option, load_dataset, print_root
from laion_assets.cli.output import echo, echo_json
from laion_assets.store.store import Store


@click.command(short_help="Locate a row by its uid.")
@click.argument("uid")
@dataset_option()
@click.option("--json", "as_json", is_flag=True, help="Print JSON: the location of the row, its values, its image.")
def trace(uid: str, name: str, as_json: bool) -> None:
    """Locate the row with this UID: parquet file, shard, sample key, source file and row, and what became of its image.

    Reads one row group of dedup_parquet and one shard's parquet file, for any size of the dataset. Exits with status 1
    if no row has this uid.
    """
    from laion_assets.stages.dedup_parquet.uid_lookup import find_uid
    from laion_assets.stages.image_shards.outcome_lookup import find_outcome

    dataset = load_dataset(name)
    store = Store.of(dataset)
    found = find_uid(dataset, store, uid)
    image = find_outcome(dataset, store, found.shard, found.key, uid.strip().lower()) if found else None
    if as_json:
        echo_json(found and {**found.__dict__, "image": image})
    else:
        print_root(dataset)
        if found is None:
            echo(f"{dataset.name} has no row with uid {uid}")
        else:
            layout = dataset.layout
            echo(f"dedup_parquet  {layout.parquet_key(found.parquet)}, row group of shard {found.shard:05d}")
            echo(f"image_shards   {layout.shard_key(found.shard)}, sample {found.key}: {_describe(image)}")
            for column, value in found.values.items():
                echo(f"{column:14} {value}")
    if found is None:
        raise click.exceptions.Exit(1)


def _describe(image: dict[str, Any] | None) -> str:
    """Return what became of an image: its sizes, or why there is none."""
    if image is None:
        return "not in the shard (it is not committed, or was built from other rows)"
    if image["status"] == "success":
        return (
            f"an image of {image['width']} x {image['height']} px, originally {image['original_width']} x "
            f"{image['original_height']}"
        )
    reason, message = image["reason"] or image["status"], image["error_message"] or ""
    return f"no image, {message}" if message.startswith(reason) else f"no image, {reason}: {message}"
