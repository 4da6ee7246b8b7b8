"""The plots of the statistics: from a counts table and its figures, a title and an SVG each."""

from collections import Counter
from statistics import median
from typing import Any

import pyarrow as pa

from laion_assets.stages.plots import areas, bars, histogram, line
from laion_assets.stages.statistics.counts import SIMILARITY_STEPS, bin_counts, of_measure, quantiles, whole_numbers
from laion_assets.stages.statistics.over_shards import shard_ranges, throughput_over_time

_TOP = 20
_LAYERS = 6
_BINS = 60
Chart = tuple[str, str]
"""Title and SVG."""


def dataset_charts(summary: dict[str, Any], counts: pa.Table) -> list[Chart]:
    """Draw the plots of the unique rows."""
    charts = []
    steps = whole_numbers(of_measure(counts, "similarity"))
    if steps:
        hundredth = SIMILARITY_STEPS // 100
        edges = list(range(min(steps) // hundredth * hundredth, max(steps) + hundredth + 1, hundredth))
        drawn = [edge / SIMILARITY_STEPS for edge in edges]
        charts.append(
            ("Similarity of image and caption", histogram("similarity", drawn, bin_counts(steps, edges), "cosine"))
        )
    charts += _sides("dataset", "Shorter side, from the crawl's CSVs", counts, summary)
    charts += _numbers("captions", "Caption length", whole_numbers(of_measure(counts, "caption_chars")), "characters")
    charts.append(("NSFW tags", bars("nsfw", summary["nsfw"])))
    charts.append(("Licences", bars("license", summary["licenses"][:_TOP])))
    charts.append(("Domains with the most rows", bars("domains", summary["domains"]["most"][:_TOP])))
    return [chart for chart in charts if chart[1]]


def image_charts(summary: dict[str, Any], counts: pa.Table, shards: pa.Table) -> list[Chart]:
    """Draw the plots of the downloaded images, and of the shards in order."""
    most = summary["domains"]["most"][:_TOP]
    failures = [(reason, rows) for reason, rows in summary["reasons"] if reason != "success"]
    return [
        ("Failures by reason", bars("reasons", failures[: 2 * _TOP])),
        *_sides("images", "Shorter side of the downloaded images", counts, summary),
        (
            "Domains with the most rows, and their downloads",
            bars(
                "fetched",
                [(domain, rows) for domain, rows, _ in most],
                [good for _, _, good in most],
                legend=("downloaded", "failed"),
            ),
        ),
        *shard_charts(shards),
    ]


def shard_charts(shards: pa.Table) -> list[Chart]:
    """Draw the plots that compare shards: failures by reason, images/s, bytes per image; and images/s over time.

    Rows are spread over shards by their hash, so each plot is flat unless the network, a resolver or a machine had a
    problem. A step or a peak shows it.
    """
    ranges = [part for part in shard_ranges(shards) if part.rows]
    if not ranges:
        return []
    across = [part.first for part in ranges]
    total = sum((part.reasons for part in ranges), start=Counter[str]())
    named = [reason for reason, _ in total.most_common(_LAYERS)]
    layers = [(reason, [part.reasons[reason] / part.rows for part in ranges]) for reason in named]
    if len(total) > len(named):
        others = [(part.reasons.total() - sum(part.reasons[name] for name in named)) / part.rows for part in ranges]
        layers.append(("all others", others))
    charts = (
        [("Failures over the shards, by reason", areas("shards-reasons", across, layers, "shard"))] if layers else []
    )
    timed = [part for part in ranges if part.rates]
    if timed:
        rates = [(part.first, median(part.rates)) for part in timed]
        between = [(min(part.rates), max(part.rates)) for part in timed]
        drawn = line("shards-rate", rates, "shard", "images/s of its worker", between)
        charts.append(("Images per second over the shards: median, slowest to fastest", drawn))
    weights = [(part.first, part.bytes / part.images) for part in ranges if part.images]
    if weights:
        charts.append(("Bytes per image over the shards", line("shards-bytes", weights, "shard", "bytes per image")))
    over_time = throughput_over_time(shards)
    if over_time:
        unit, length_s = ("hours", 3600) if over_time[-1][0] > 7200 else ("minutes", 60)
        points = [(second / length_s, rate) for second, rate in over_time]
        drawn = line("shards-time", points, f"{unit} since the first shard", "images/s of all workers")
        charts.append(("Throughput over time", drawn))
    return charts


def _sides(name: str, title: str, counts: pa.Table, summary: dict[str, Any]) -> list[Chart]:
    classes = [(f"at least {bound} px", rows) for bound, rows in summary["at_least"].items()]
    return [
        *_numbers(f"{name}-sides", title, whole_numbers(of_measure(counts, "shorter_side")), "px"),
        ("Images by minimum width and height", bars(f"{name}-classes", classes)),
    ]


def _numbers(name: str, title: str, counts: dict[int, int], unit: str) -> list[Chart]:
    """Draw a histogram up to the 99th percentile; otherwise the largest values would compress the rest into a line."""
    if not counts:
        return []
    last = quantiles(counts, [0.99])["0.99"]
    width = max(-(-(last + 1) // _BINS), 1)
    edges = list(range(0, last + 1 + width, width))
    shown = {value: rows for value, rows in counts.items() if value < edges[-1]}
    return [(title, histogram(name, edges, bin_counts(shown, edges), f"{unit} (up to the 99th percentile)"))]
