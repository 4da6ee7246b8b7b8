"""Which plots the statistics have: of a counts table and its figures, a title and an SVG each."""

from collections import Counter
from statistics import median
from typing import Any

import pyarrow as pa

from laion_assets.stages.statistics.counts import SIMILARITY_STEPS, binned, of_measure, quantiles, whole_numbers
from laion_assets.stages.statistics.over_shards import published_over_time, spans
from laion_assets.stages.statistics.plots import areas, bars, histogram, line

_TOP = 20
_LAYERS = 6
_BINS = 60
Chart = tuple[str, str]
"""Title and SVG."""


def dataset_charts(summary: dict[str, Any], counts: pa.Table) -> list[Chart]:
    """Plots of the unique rows."""
    charts = []
    steps = whole_numbers(of_measure(counts, "similarity"))
    if steps:
        hundredth = SIMILARITY_STEPS // 100
        edges = list(range(min(steps) // hundredth * hundredth, max(steps) + hundredth + 1, hundredth))
        drawn = [edge / SIMILARITY_STEPS for edge in edges]
        charts.append(
            ("Similarity of picture and caption", histogram("similarity", drawn, binned(steps, edges), "cosine"))
        )
    charts += _sides("dataset", "Shorter side as the crawl says", counts, summary)
    charts += _numbers("captions", "Caption length", whole_numbers(of_measure(counts, "caption_chars")), "characters")
    charts.append(("NSFW tags", bars("nsfw", summary["nsfw"])))
    charts.append(("Licences", bars("license", summary["licenses"][:_TOP])))
    charts.append(("Domains with the most rows", bars("domains", summary["domains"]["most"][:_TOP])))
    return [chart for chart in charts if chart[1]]


def image_charts(summary: dict[str, Any], counts: pa.Table, shards: pa.Table) -> list[Chart]:
    """Plots of the fetched pictures, and of the shards in their order."""
    most = summary["domains"]["most"][:_TOP]
    failures = [(reason, rows) for reason, rows in summary["reasons"] if reason != "success"]
    return [
        ("Failures by reason", bars("reasons", failures[: 2 * _TOP])),
        *_sides("images", "Shorter side as fetched", counts, summary),
        (
            "Domains with the most rows, and what came of them",
            bars(
                "fetched",
                [(domain, rows) for domain, rows, _ in most],
                [good for _, _, good in most],
                legend=("fetched", "failed"),
            ),
        ),
        *shard_charts(shards),
    ]


def shard_charts(shards: pa.Table) -> list[Chart]:
    """What differs from shard to shard: failures by reason, rate, weight; and the rate of all workers over time.

    Rows are spread over shards by their hash, so each of these is level, unless the network, a resolver or a machine
    had a bad hour: a step or a peak is what to look for.
    """
    found = [span for span in spans(shards) if span.rows]
    if not found:
        return []
    across = [span.first for span in found]
    total = sum((span.reasons for span in found), start=Counter[str]())
    named = [reason for reason, _ in total.most_common(_LAYERS)]
    layers = [(reason, [span.reasons[reason] / span.rows for span in found]) for reason in named]
    if len(total) > len(named):
        others = [(span.reasons.total() - sum(span.reasons[name] for name in named)) / span.rows for span in found]
        layers.append(("all others", others))
    charts = (
        [("Failures over the shards, by reason", areas("shards-reasons", across, layers, "shard"))] if layers else []
    )
    timed = [span for span in found if span.rates]
    if timed:
        rates = [(span.first, median(span.rates)) for span in timed]
        between = [(min(span.rates), max(span.rates)) for span in timed]
        drawn = line("shards-rate", rates, "shard", "pictures/s of its worker", between)
        charts.append(("Rate over the shards: the median, and from the slowest to the fastest", drawn))
    weights = [(span.first, span.bytes / span.pictures) for span in found if span.pictures]
    if weights:
        charts.append(("Bytes a picture over the shards", line("shards-bytes", weights, "shard", "bytes a picture")))
    over_time = published_over_time(shards)
    if over_time:
        unit, length_s = ("hours", 3600) if over_time[-1][0] > 7200 else ("minutes", 60)
        points = [(second / length_s, rate) for second, rate in over_time]
        drawn = line("shards-time", points, f"{unit} since the first shard", "pictures/s of all workers")
        charts.append(("Throughput over time", drawn))
    return charts


def _sides(name: str, title: str, counts: pa.Table, summary: dict[str, Any]) -> list[Chart]:
    classes = [(f"at least {bound} px", rows) for bound, rows in summary["at_least"].items()]
    return [
        *_numbers(f"{name}-sides", title, whole_numbers(of_measure(counts, "shorter_side")), "px"),
        ("Pictures by size of both sides", bars(f"{name}-classes", classes)),
    ]


def _numbers(name: str, title: str, counts: dict[int, int], unit: str) -> list[Chart]:
    """A histogram up to the 99th percentile: the longest captions would make a line of everything else."""
    if not counts:
        return []
    last = quantiles(counts, [0.99])["0.99"]
    width = max(-(-(last + 1) // _BINS), 1)
    edges = list(range(0, last + 1 + width, width))
    shown = {value: rows for value, rows in counts.items() if value < edges[-1]}
    return [(title, histogram(name, edges, binned(shown, edges), f"{unit} (up to the 99th percentile)"))]
