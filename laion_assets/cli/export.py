"""`laion-assets export`."""

from typing import TYPE_CHECKING

import click

from laion_assets.cli.dataset_option import dataset_option, load_dataset, print_root
from laion_assets.cli.output import echo, echo_json

if TYPE_CHECKING:
    from laion_assets.export.run import Export, ExportReport

_FORMATS = ["webdataset", "parquet", "csv", "json", "npy"]
"""As in `laion_assets.export.request`, which a command that only prints help does not import."""


@click.command(short_help="Export rows as lists, DataComp uids or webdataset shards.")
@click.option("--output", "-o", help="New folder or object-store URL, for example s3://bucket/red-circles.")
@dataset_option()
@click.option(
    "--format", "-f", "file_format", type=click.Choice(_FORMATS), default="webdataset", show_default=True,
    help="webdataset: shards with images. parquet, csv, json (lines): a list. npy: DataComp's sorted uid array.",
)  # fmt: skip
@click.option("--where", "-w", default="", metavar="SQL", help="Only rows that match this condition (DuckDB's SQL).")
@click.option("--search", "-s", "text", default="", metavar="TEXT", help="Only the nearest rows of this text.")
@click.option("--k", "-k", default=1_000, show_default=True, help="Rows of --search, hidden ones included.")
@click.option(
    "--modality", type=click.Choice(["image", "text"]), default="image", show_default=True,
    help="Search in the images or in the captions.",
)  # fmt: skip
@click.option("--uids", default="", metavar="FILE", help="Only these uids: .txt (one a line), .parquet or .npy.")
@click.option(
    "--rows-per-shard", type=int, help="Rows of a shard, default 10,000; of a file of a list, default 1,000,000."
)
@click.option("--columns", metavar="NAMES", help="Columns of a list, separated by commas. Default: all.")
@click.option("--include-hidden", is_flag=True, help="Also export rows whose NSFW tag search.show does not allow.")
@click.option("--include-failed", is_flag=True, help="Lists only: also rows without an image, with their reason.")
@click.option("--keep-formulas", is_flag=True, help="csv only: do not put ' before text like =1+1.")
@click.option("--dry-run", is_flag=True, help="Print counts, size and number of shards. Write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def export(
    output: str | None,
    name: str,
    file_format: str,
    where: str,
    text: str,
    k: int,
    modality: str,
    uids: str,
    rows_per_shard: int | None,
    columns: str | None,
    include_hidden: bool,
    include_failed: bool,
    keep_formulas: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Export rows of a dataset to a new folder. Images are copied from the shards, never downloaded again.

    \b
    laion-assets export --where "original_width >= 512 AND caption ILIKE '%red%'" -o red --dry-run
    laion-assets export --where "original_width >= 512 AND caption ILIKE '%red%'" -o red
    laion-assets export --search "a red circle" --k 500 -f csv -o circles
    laion-assets export --uids subset.npy -o subset --rows-per-shard 1000
    laion-assets export --where "clip_similarity > 0.3" -f npy -o uids      for DataComp's resharder
    laion-assets export --where "reason = 'http_404'" --include-failed -f json -o gone

    \b
    The columns are those of the shards' parquet files, and clip_similarity where embeddings are committed:
    uid, caption, url, NSFW, LICENSE, similarity, width, height, original_width, original_height, ...
    A condition is one SQL expression without subqueries. NULL counts as false.

    Rows that are left out are counted by reason: hidden (NSFW tag), no_image, not_matching, not_found, missing_shard,
    duplicate. recipe.json in the folder has the counts, and a digest of everything that determines the bytes. After an
    interruption, run the same command again: finished shards are kept. More: docs/operations/export.md.
    """
    from laion_assets.export.request import ExportRequest, SearchSelection
    from laion_assets.export.run import plan_export, write_export

    if output is None and not dry_run:
        raise click.UsageError("Missing option '--output': the new folder. Or add --dry-run.")
    dataset = load_dataset(name)
    request = ExportRequest(
        format=file_format,
        where=where,
        search=SearchSelection(text, k, modality) if text else None,
        uids=uids,
        rows_per_file=rows_per_shard,
        columns=tuple(part.strip() for part in columns.split(",")) if columns is not None else None,
        include_hidden=include_hidden,
        include_failed=include_failed,
        escape_formulas=not keep_formulas,
    )
    print_root(dataset)

    def log(line: str) -> None:
        echo(line, dim=True, err=True)

    planned = plan_export(dataset, request, log)
    if dry_run or output is None:
        _print_plan(planned, as_json)
    else:
        _print_report(write_export(planned, output, log), output, as_json)


def _print_plan(planned: "Export", as_json: bool) -> None:
    from laion_assets.export.run import estimate_size

    rows, size = len(planned.rows), estimate_size(planned)
    if as_json:
        counts = planned.counts.to_json() | {"written": 0, "to_write": rows}
        echo_json({"digest": planned.digest, "counts": counts, "files": planned.files, "estimated_bytes": size})
        return
    _print_counts(planned.counts.selected, rows, planned.counts.reasons, "to write")
    noun = "shards" if planned.request.format == "webdataset" else "files"
    echo(f"{noun + ':':<17}{planned.files:,}")
    echo(f"{'size:':<17}{'' if planned.request.format == 'npy' else 'about '}{_size(size)}")
    echo("dry run: nothing was written")


def _print_report(report: "ExportReport", output: str, as_json: bool) -> None:
    if as_json:
        echo_json(
            {
                "output": output,
                "digest": report.digest,
                "counts": report.counts.to_json(),
                "files": report.files,
                "bytes": report.size,
            }
        )
        return
    _print_counts(report.counts.selected, report.counts.written, report.counts.reasons, "written")
    if report.resumed:
        echo(f"{'kept:':<17}{report.resumed:,} of {report.files:,} files of an earlier run")
    echo(f"{'size:':<17}{_size(report.size)}")
    echo(f"{'recipe:':<17}{output.rstrip('/')}/recipe.json, digest {report.digest[:12]}")


def _print_counts(selected: int, rows: int, reasons: dict[str, int], noun: str) -> None:
    echo(f"{'rows selected:':<17}{selected:,}")
    echo(f"{'rows ' + noun + ':':<17}{rows:,}", bold=True)
    for reason, count in sorted(reasons.items()):
        echo(f"  {'left out:':<15}{count:,} {reason}")


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1_000:
            return f"{size:,.0f} {unit}" if unit == "bytes" or size >= 10 else f"{size:.1f} {unit}"
        size /= 1_000
    return f"{size:,.1f} TB"
