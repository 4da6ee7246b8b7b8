"""`laion-assets fetch`."""

import contextlib
from dataclasses import asdict
from typing import Any

import click

from laion_assets.cli.dataset_option import dataset_option, load_dataset
from laion_assets.cli.output import echo, echo_json
from laion_assets.http.urls.remedies import describe_remedy
from laion_assets.http.urls.target import parse_target
from laion_assets.reasons import Rejection


@click.command(short_help="Dry-run one URL through the fetcher.")
@click.argument("url")
@dataset_option(default=None)
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
def fetch(url: str, name: str | None, as_json: bool) -> None:
    """Dry-run one URL through the fetcher: fetch, check and resize it as for a shard. Nothing is written.

    Without --dataset the strict policy applies: http and https, public addresses, ports 80 and 443. With --dataset
    the settings of the dataset apply, including its `resolve` hosts. For the sample, its web site is started.
    The exit status is 0 for every outcome, also for a refused URL.

    \b
    laion-assets fetch http://127.0.0.1/secret.jpg --json         blocked_address
    laion-assets fetch file:///etc/passwd --json                  unsupported_scheme
    """
    from laion_assets.stages.image_shards.preview import preview_url

    dataset = load_dataset(name) if name else None
    with contextlib.ExitStack() as stack:
        if dataset is not None and dataset.uses_sample_site:
            from laion_assets.sample.running import running_site

            dataset = dataset.with_resolve(stack.enter_context(running_site()).resolve)
        outcome = asdict(preview_url(url, dataset))
    if as_json:
        echo_json(outcome)
        return
    good = outcome["status"] == "success"
    headline = "success" if good else f"{outcome['status']}: {outcome['reason']}"
    echo(headline, fg="green" if good else "yellow", bold=True)
    for key, value in outcome.items():
        if key not in ("status", "reason", "hops", "consent") and value not in (None, ""):
            echo(f"  {key:<16} {value}")
    if remedy := _describe_remedy(outcome, name or "NAME"):
        echo(f"  {'remedy':<16} {remedy}")
    for line in outcome["consent"]:
        echo(f"  {'consent':<16} {line}")
    for number, hop in enumerate(outcome["hops"], 1):
        _print_hop(number, hop)


def _describe_remedy(outcome: dict[str, Any], name: str) -> str:
    """Return how to allow the host, or the network of its address, of a refused URL; empty for other outcomes."""
    hop = (outcome["hops"] or [{"url": outcome["url"], "addresses": []}])[-1]
    address = next((each["address"] for each in hop["addresses"]), "")
    try:
        target = parse_target(hop["url"])
    except Rejection:
        return describe_remedy(outcome["reason"], name, address=address)
    return describe_remedy(outcome["reason"], name, target.host, target.port, address)


def _print_hop(number: int, hop: dict[str, Any]) -> None:
    status = hop["http_status"] or "no response"
    echo(f"  {f'hop {number}':<16} {hop['url']}: {status}")
    for address in hop["addresses"]:
        echo(f"  {'':<16} {address['address']}: {address['verdict'].removeprefix(address['address'] + ' ')}")
    echo(f"  {'':<16} robots.txt {hop['robots_txt']}")
    phases = [f"{phase} {seconds * 1000:.1f} ms" for phase, seconds in hop["seconds"].items() if seconds is not None]
    if phases:
        echo(f"  {'':<16} {', '.join(phases)}")
