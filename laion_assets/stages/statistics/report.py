"""The report: one HTML page with all tables and plots, without scripts and without network requests.

`report.html` is its template. Jinja escapes every value, and a policy in the page forbids scripts and requests.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from laion_assets.plain_text import one_line
from laion_assets.stages.statistics.charts import Chart
from laion_assets.stages.statistics.handle import DATASET_STATISTICS, IMAGE_STATISTICS


@dataclass(frozen=True)
class Table:
    """A table; all columns but the first are numbers. `folded` is the summary line of a collapsed table."""

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    folded: str = ""


@dataclass(frozen=True)
class Card:
    """Tables under one title."""

    title: str
    parts: Sequence[Table]


@dataclass(frozen=True)
class Section:
    """The figures of one of the two assets."""

    title: str
    counted: int
    declared: int
    unit: str
    facts: Sequence[tuple[str, Any]]
    charts: Sequence[tuple[str, Markup]]
    cards: Sequence[Card]


def report_page(name: str, description: str, summaries: dict[str, Any], charts: dict[str, list[Chart]]) -> str:
    """Render the report from the figures and plots of `dataset_statistics` and `image_statistics`, by asset."""
    sections = [
        make_section(summaries[asset], charts[asset])
        for asset, make_section in ((DATASET_STATISTICS, _dataset_section), (IMAGE_STATISTICS, _image_section))
        if asset in summaries
    ]
    environment = Environment(
        loader=PackageLoader(__package__, ""),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters["line"] = _line
    return environment.get_template("report.html").render(name=name, description=description, sections=sections)


def summary_tables(asset: str, summary: dict[str, Any]) -> list[tuple[str, Table]]:
    """Return the tables of one asset in the report with their titles, the facts first, without the collapsed ones."""
    section = {DATASET_STATISTICS: _dataset_section, IMAGE_STATISTICS: _image_section}[asset](summary, [])
    facts = (section.title, Table(("", ""), section.facts))
    return [facts, *((card.title, part) for card in section.cards for part in card.parts if not part.folded)]


def _line(value: Any) -> str:
    """A number with thousands separators, or one line of text; Jinja escapes it."""
    return f"{value:,}" if isinstance(value, int) else one_line(value)


def _dataset_section(summary: dict[str, Any], charts: list[Chart]) -> Section:
    read = summary["read"]
    facts = [
        ("unique rows", summary["rows"]),
        ("rows read", read["rows"]),
        ("domains", summary["domains"]["distinct"]),
        ("source files", summary["source_files"]["distinct"]),
        ("median similarity", summary["similarity"].get("0.5", "-")),
        ("without a caption", summary["captions_missing"]),
    ]
    sources = summary["source_files"]
    cards = [
        Card("Dropped rows by reason", [_table(("reason", "rows"), read["dropped"].items())]),
        Card("Quantiles", [_quantiles(summary, ("width", "height", "caption_chars", "similarity"))]),
        Card("Images by minimum width and height", [_classes(summary)]),
        Card(
            "Rows per source file",
            [
                _table(("", "rows"), [(each, sources[f"{each}_rows"]) for each in ("fewest", "median", "most")]),
                _table(("source file", "rows"), sources["most"], "the source files with the most rows"),
            ],
        ),
        Card("Domains", [_table(("domain", "rows"), summary["domains"]["most"], "the 100 domains with the most rows")]),
    ]
    return _section("Rows", summary, "parquet files", facts, charts, cards)


def _image_section(summary: dict[str, Any], charts: list[Chart]) -> Section:
    rate = summary["success_rate"]
    facts = [
        ("rows", summary["rows"]),
        ("images", summary["successes"]),
        ("success rate", "-" if rate is None else f"{rate:.1%}"),
        ("domains", summary["domains"]["distinct"]),
        ("domains without an image", summary["domains"]["without_a_success"]),
    ]
    domains = [(domain, rows, good, f"{good / rows:.1%}") for domain, rows, good in summary["domains"]["most"]]
    cards = [
        Card("Outcomes", [_table(("status", "rows"), summary["statuses"])]),
        Card("Reasons", [_table(("reason", "rows"), summary["reasons"])]),
        Card("Quantiles of the original images", [_quantiles(summary, ("width", "height"))]),
        Card("Images by minimum width and height", [_classes(summary)]),
        Card(
            "Domains", [_table(("domain", "rows", "downloaded", "rate"), domains, "the 100 domains with the most rows")]
        ),
    ]
    return _section("Images", summary, "shards", facts, charts, cards)


def _section(
    title: str,
    summary: dict[str, Any],
    unit: str,
    facts: Sequence[tuple[str, Any]],
    charts: list[Chart],
    cards: Sequence[Card],
) -> Section:
    part = summary["partitions"]
    drawn = [(name, Markup(svg)) for name, svg in charts]  # noqa: S704 - plots.py draws it and escapes its labels
    return Section(title, part["counted"], part["declared"], unit, facts, drawn, cards)


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]], folded: str = "") -> Table:
    return Table(head, list(rows), folded)


def _quantiles(summary: dict[str, Any], measures: Sequence[str]) -> Table:
    shares = list(next((summary[measure] for measure in measures if summary[measure]), {}))
    rows = [(f"{float(share):.0%}", *(summary[measure].get(share, "-") for measure in measures)) for share in shares]
    return _table(("share of rows up to", *(measure.replace("_", " ") for measure in measures)), rows)


def _classes(summary: dict[str, Any]) -> Table:
    known = [(f"at least {bound} px", rows) for bound, rows in summary["at_least"].items()]
    return _table(("width and height", "rows"), [*known, ("unknown", summary["size_unknown"])])
