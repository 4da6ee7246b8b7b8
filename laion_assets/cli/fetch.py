"""`laion-assets fetch`."""

import contextlib
import dataclasses
from typing import Any

import click

from laion_assets.cli.dataset_option import chosen, dataset_option
from laion_assets.cli.output import echo, echo_json


@click.command()
@click.argument("url")
@dataset_option(default=None)
@click.option("--json", "as_json", is_flag=True, help="Print the whole outcome as JSON.")
def fetch(url: str, name: str | None, as_json: bool) -> None:
    """Dry-run one URL through the fetcher: fetch, check and resize it as for a shard; nothing is written.

    Without --dataset the strict policy applies: http and https, public addresses and ports 80 and 443 only. With a
    dataset its settings apply, its `resolve` hosts included (the sample's site is started for the command).
    The exit status is 0 for any outcome, also if the URL is refused.

    \b
    laion-assets fetch http://127.0.0.1/secret.jpg --json         blocked_address
    laion-assets fetch file:///etc/passwd --json                  unsupported_scheme
    """
    from laion_assets.stages.image_shards.preview import preview_url

    dataset = chosen(name) if name else None
    with contextlib.ExitStack() as stack:
        if dataset is not None and dataset.uses_sample_site:
            from laion_assets.sample.running import running_site

            dataset = dataset.with_resolve(stack.enter_context(running_site()).resolve)
        preview = dataclasses.asdict(preview_url(url, dataset))
    if as_json:
        echo_json(preview)
        return
    good = preview["status"] == "success"
    headline = "success" if good else f"{preview['status']}: {preview['reason']}"
    echo(headline, fg="green" if good else "yellow", bold=True)
    for key, value in preview.items():
        if key not in ("status", "reason", "hops", "consent") and value not in (None, ""):
            echo(f"  {key:<16} {value}")
    for line in preview["consent"]:
        echo(f"  {'consent':<16} {line}")
    for number, hop in enumerate(preview["hops"], 1):
        _print_hop(number, hop)


def _print_hop(number: int, hop: dict[str, Any]) -> None:
    answer = hop["http_status"] or "no answer"
    echo(f"  {f'hop {number}':<16} {hop['url']}: {answer}")
    for address in hop["addresses"]:
        echo(f"  {'':<16} {address['address']}: {address['verdict'].removeprefix(address['address'] + ' ')}")
    echo(f"  {'':<16} robots.txt {hop['robots_txt']}")
    phases = [f"{phase} {seconds * 1000:.1f} ms" for phase, seconds in hop["seconds"].items() if seconds is not None]
    if phases:
        echo(f"  {'':<16} {', '.join(phases)}")
