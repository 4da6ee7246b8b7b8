"""`laion-assets init`."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from laion_assets.cli.output import echo
from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout
from laion_assets.dataset.settings.resolution import Settings
from laion_assets.errors import SourceError
from laion_assets.plain_text import one_line

if TYPE_CHECKING:
    from laion_assets.inspection.inspection import Inspection
    from laion_assets.inspection.url_check import UrlCheck

_EXAMPLES = 3
_EXAMPLE_CHARS = 100
_ONE_SHARD = Layout(parquet_files=1, shards=1, embedding_files=1, rows_per_shard=1)
_SEPARATORS = {"tab": "\t", "\\t": "\t", "comma": ",", "pipe": "|", "semicolon": ";"}


@click.command(short_help="Declare a dataset from your own files, in the settings file.")
@click.argument("name")
@click.option(
    "--from", "place", required=True, metavar="FOLDER|FILE|PATTERN|URL", help="Parquet, CSV or JSON lines files."
)
@click.option("--url-column", default="", help="Column of the image URLs. Default: detected.")
@click.option("--caption-column", default="", help="Column of the captions. Default: detected; captions are optional.")
@click.option("--keep", multiple=True, metavar="COLUMN", help="Also keep this column. May be given several times.")
@click.option("--separator", default="", help="Separator of CSV files: a character, or tab. Default: detected.")
@click.option("--quote", default=None, help="Quote character of CSV files; '' if there is none. Default: detected.")
@click.option("--encoding", default="", help="Character encoding of text files. Default: detected.")
@click.option("--model", default="", help="CLIP model, by its name in clip-retrieval; sample-clip needs no download.")
@click.option(
    "--resolve",
    multiple=True,
    metavar="HOST=ADDRESS:PORT",
    help="Fetch the images of HOST from this address, which may be private. May be given several times.",
)
@click.option("--check-urls/--no-check-urls", default=True, help="Fetch ten of the URLs.  [default: check-urls]")
@click.option("--dry-run", is_flag=True, help="Print the entry and write nothing.")
@click.option("--yes", "-y", is_flag=True, help="Ask nothing: use the likeliest columns.")
def init(
    name: str,
    place: str,
    url_column: str,
    caption_column: str,
    keep: tuple[str, ...],
    separator: str,
    quote: str | None,
    encoding: str,
    model: str,
    resolve: tuple[str, ...],
    check_urls: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Look at your files and declare them as the dataset NAME in the settings file (./laion-assets.toml).

    Finds the format, the columns of URLs and captions, separator, quotes, encoding and the number of rows. Proposes the
    layout, fetches ten URLs, and appends a table with comments. Reads the first bytes or the footers of some files.

    \b
    laion-assets init cats --from cats/                           a folder
    laion-assets init cats --from 'cats/part-*.csv.gz' --dry-run  a pattern
    laion-assets init cats --from hf://datasets/ORG/NAME          a dataset of Hugging Face
    laion-assets init cats --from s3://bucket/cats --model open_clip:ViT-B-32/laion2b_s34b_b79k
    """
    from laion_assets.inspection.entry import (
        append_entry,
        check_entry,
        format_entry,
        format_resolve,
        format_show_untagged,
        refuse_existing,
    )
    from laion_assets.inspection.inspection import inspect_place
    from laion_assets.inspection.table_sample import Choices

    settings = Settings.load()
    file = Path(settings.file_name)
    refuse_existing(name, file)
    base = settings.apply(Dataset(name=name, description="", layout=_ONE_SHARD))
    start = replace(
        base,
        model=model or base.model,
        resolve={**base.resolve, **_parse_resolve(resolve)},
        description=_describe(place),
    )
    choices = Choices(url_column, caption_column, _SEPARATORS.get(separator, separator), quote, encoding, keep)
    asks = sys.stdin.isatty() and not yes
    found = inspect_place(start, place, choices, lambda question, names: _ask(question, names, asks, yes))
    _print_inspection(found)
    dataset, blocked = _check_urls(found, asks) if check_urls else (found.dataset, {})
    untagged = "" if found.has_nsfw_tags else format_show_untagged(name)
    about = {
        "head": f"Written by `laion-assets init {name}`. All settings: laion-assets settings --dataset {name}",
        "foot": "\n".join(filter(None, (format_resolve(name, blocked) if blocked else "", untagged))),
        "layout": f"Rows: {found.row_count}.\nThe layout is fixed once there are partitions (laion-assets relayout).",
    }
    entry = format_entry(dataset, base, about)
    if dry_run:
        check_entry(entry.encode(), file, name)
        echo()
        for line in entry.splitlines():
            echo(line)
        return
    if asks and not click.confirm(f"Append [dataset.{name}] to {file}?", default=True):
        echo("nothing was written")
        return
    append_entry(file, entry, name)
    echo(f"wrote:     [dataset.{name}] in {file}")
    if blocked:
        echo(f"           Remove the # before [dataset.{name}.resolve] and its lines there to allow the refused hosts.")
    if untagged:
        echo("           The rows have no NSFW tags: their images are hidden in the Dagster UI and the search report.")
        echo(f"           To show them, remove the # before [dataset.{name}.search_report] and its line there.")
    echo(f"next:      laion-assets materialize --dataset {name}")
    echo(f'           laion-assets search --dataset {name} "a text"')


def _describe(place: str) -> str:
    return f"Images of {one_line(place, 200)}"


def _parse_resolve(given: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in given:
        host, equals, where = text.partition("=")
        if not equals or not host or ":" not in where:
            raise click.BadParameter(f"Invalid --resolve {text!r}. Expected HOST=ADDRESS:PORT.")
        found[host] = where
    return found


def _ask(question: str, names: Sequence[str], asks: bool, yes: bool) -> str | None:
    """Ask on a terminal. Elsewhere, --yes takes the first choice, and without it the command fails."""
    if asks:
        echo(f"{question} Candidates: {', '.join(names)}")
        return str(click.prompt("column", default=names[0], type=click.Choice(list(names)), show_choices=False))
    if yes:
        return None
    option = "--url-column" if "URL" in question else "--caption-column"
    raise SourceError(
        f"{question} There are several candidates: {', '.join(names)}. Choose one with {option}, or use --yes for the "
        "first one."
    )


def _print_inspection(found: "Inspection") -> None:
    files = found.files
    size = f", {files.size / 1e6:,.2f} MB" if files.size >= 0 else ""
    ignored = f" ({files.ignored:,} other files are ignored)" if files.ignored else ""
    echo(f"files:     {len(files.files):,}{size}{ignored}")
    echo(f"format:    {found.format}")
    others = f"; not used: {', '.join(found.others)}" if found.others else ""
    kept = f"; kept: {', '.join(found.dataset.dedup.keep_columns)}" if found.dataset.dedup.keep_columns else ""
    captions = f"{found.caption.name} (captions)" if found.caption else "no captions"
    echo(f"columns:   {found.url.name} (URLs), {captions}{kept}{others}")
    for remark in found.remarks:
        echo(f"note:      {remark}", fg="yellow")
    echo(f"rows:      {found.row_count}")
    if found.sample.reasons:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in found.sample.reasons.most_common())
        total = found.sample.accepted + found.sample.reasons.total()
        echo(f"rejected:  {found.sample.reasons.total():,} of {total:,} sampled rows: {reasons}", fg="yellow")
    for number, (url, caption) in enumerate(found.sample.spread(_EXAMPLES)):
        label = "examples:" if not number else ""
        echo(f"{label:<10} {one_line(url, _EXAMPLE_CHARS)} | {one_line(caption, _EXAMPLE_CHARS)}")
    layout = found.dataset.layout
    echo(
        f"layout:    {_count(layout.shards, 'shard')} of at most {layout.rows_per_shard:,} rows, "
        f"{_count(layout.parquet_files, 'parquet file')}, {_count(layout.embedding_files, 'embedding file')}"
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _check_urls(found: "Inspection", asks: bool) -> tuple[Dataset, dict[str, str]]:
    """Fetch ten URLs and print the outcome.

    Returns the dataset, with the hosts that the user allows, and the endpoints of hosts that stay refused.
    """
    from laion_assets.inspection.url_check import CHECKED_URLS, check_urls

    dataset = found.dataset
    urls = [url for url, _ in found.sample.spread(CHECKED_URLS)]
    checked = check_urls(dataset, urls)
    _print_check(checked)
    blocked = {each.host: each.endpoint for each in checked.blocked}
    if blocked and asks:
        hosts = ", ".join(f"{each.host} at {each.endpoint}" for each in checked.blocked)
        if click.confirm(f"Allow these hosts for this dataset: {one_line(hosts)}?", default=False):
            dataset, blocked = dataset.with_resolve(blocked), {}
            _print_check(check_urls(dataset, urls))
    return dataset, blocked


def _print_check(checked: "UrlCheck") -> None:
    total, good = len(checked.outcomes), checked.counts["success"]
    counts = ", ".join(f"{count} {reason}" for reason, count in checked.counts.most_common() if reason != "success")
    echo(
        f"URLs:      {good} of {total} could be fetched{f'; {counts}' if counts else ''}",
        fg=None if good == total else "yellow",
    )
    for reason in dict.fromkeys(reason for _, reason, _ in checked.outcomes if reason != "success"):
        url, _, detail = next(each for each in checked.outcomes if each[1] == reason)
        echo(f"           {reason}: {one_line(url, _EXAMPLE_CHARS)}{f' ({detail})' if detail else ''}", dim=True)
    for host in checked.blocked:
        echo(
            f"           If you trust {host.host}, allow it for this dataset: --resolve {host.host}={host.endpoint} "
            "(setting resolve)",
            fg="yellow",
        )
    if checked.ports:
        ports = ", ".join(str(port) for port in (80, 443, *checked.ports))
        echo(f"           To fetch from these ports, set images.fetch.allowed_ports = [{ports}].", fg="yellow")
