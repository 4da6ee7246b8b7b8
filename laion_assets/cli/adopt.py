"""`laion-assets adopt`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from laion_assets.cli.asset_argument import AssetName
from laion_assets.cli.dataset_option import dataset_option, load_dataset, print_root
from laion_assets.cli.output import echo
from laion_assets.stages.registry import STAGES, stage_names

if TYPE_CHECKING:
    from laion_assets.orchestration.adoption import AdoptionReport

_ASSETS = [stage.name for stage in STAGES if stage.adopt]
_MAX_NOTES, _MAX_IGNORED = 20, 3
"""Lines of notes, and names of ignored files, that are printed. Every refusal is printed."""


@click.command(
    short_help="Adopt shards of img2dataset or embeddings of clip-retrieval.",
    epilog=f"ASSET: {' or '.join(_ASSETS)}.",
)
@click.argument("asset", metavar="ASSET", type=AssetName(_ASSETS))
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@dataset_option()
@click.option("--dry-run", is_flag=True, help="Verify and report; change nothing.")
@click.option("--copy", is_flag=True, help="Copy the files. By default they are hard links where the disk allows it.")
def adopt(asset: str, folder: Path, name: str, dry_run: bool, copy: bool) -> None:
    """Make files of another program in a local FOLDER partitions of ASSET, without making them again.

    \b
    shards       FOLDER is the output_folder of img2dataset (webdataset): 00000.tar, .parquet, _stats.json
    embeddings   FOLDER is the output_folder of clip-retrieval inference: img_emb/, text_emb/, metadata/

    Every file is verified first: hashes, row counts, each sample with its row. If a file does not fit, it is named
    with the reason, nothing is changed, and the exit status is 1. Embeddings need their shards in the dataset
    (adopted or materialized) and the dataset's model, which encodes some rows again. FOLDER is never changed.
    Adopted partitions are complete: runs skip them, also after a change of settings. Run the same command again
    after an interruption.
    """
    from laion_assets.orchestration.adoption import adopt as run

    dataset = load_dataset(name)
    if asset not in stage_names(dataset):
        raise click.UsageError(f"The dataset {name} has no asset {asset}.")
    print_root(dataset)
    report = run(dataset, asset, folder, copy=copy, dry_run=dry_run, log=lambda line: echo(line, dim=True, err=True))
    _print_report(report)
    if report.refused:
        raise SystemExit(1)


def _print_report(report: "AdoptionReport") -> None:
    for refusal in report.refused:
        echo(f"refused {refusal.name}: {refusal.reason}", fg="red")
    for note in report.notes[:_MAX_NOTES]:
        echo(f"note {note.name}: {note.reason}", fg="yellow")
    if len(report.notes) > _MAX_NOTES:
        echo(f"notes: {len(report.notes) - _MAX_NOTES:,} more", fg="yellow")
    if report.ignored:
        more = f" and {len(report.ignored) - _MAX_IGNORED:,} more" if len(report.ignored) > _MAX_IGNORED else ""
        echo(f"ignored: {', '.join(report.ignored[:_MAX_IGNORED])}{more}")
    verb = "fit" if report.refused else "would be adopted" if report.is_dry_run else "adopted"
    how = ", ".join(f"{count:,} by {method}" for method, count in report.methods.most_common())
    echo(f"{report.asset}: {_count(report.adopted)} {verb}{f' ({how})' if how else ''}, {report.bytes / 1e6:,.1f} MB")
    if report.present:
        echo(f"{report.asset}: {_count(report.present)} adopted before")
    dropped = ", ".join(f"{count:,} {reason}" for reason, count in report.reasons.most_common())
    echo(f"rows: {report.rows_in:,} in, {report.rows_out:,} kept{f'; dropped: {dropped}' if dropped else ''}")
    if report.refused:
        echo(f"{len(report.refused):,} refused. Nothing was changed.", fg="red")
    elif report.is_dry_run:
        echo("Dry run: nothing was changed.")


def _count(keys: list[str]) -> str:
    if not keys:
        return "0 partitions"
    if len(keys) == 1:
        return f"1 partition ({keys[0]})"
    return f"{len(keys):,} partitions ({keys[0]} to {keys[-1]})"
