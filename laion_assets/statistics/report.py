"""One HTML page with everything: tables and plots, no script, nothing from the network."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from laion_assets.handles import DATASET_STATISTICS, IMAGE_STATISTICS
from laion_assets.statistics.charts import Chart

_CSS = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; color: #22252b; background: #f6f7f9;
  margin: 0; }
main { max-width: 1180px; margin: 0 auto; padding: 28px 24px 60px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 20px; margin: 40px 0 12px; }
h3 { font-size: 14px; margin: 0 0 10px; color: #444a54; }
.lead { color: #5b616b; margin: 0 0 20px; max-width: 70ch; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(165px, 1fr)); gap: 12px; margin: 0 0 16px; }
.fact { background: #fff; border: 1px solid #e4e7ec; border-radius: 8px; padding: 12px 14px; }
.fact b { display: block; font-size: 21px; font-variant-numeric: tabular-nums; } .fact span { color: #5b616b; }
.grid { columns: 2 440px; column-gap: 16px; }
.card { background: #fff; border: 1px solid #e4e7ec; border-radius: 8px; padding: 14px 16px; overflow-x: auto;
  break-inside: avoid; margin: 0 0 16px; }
.card svg { width: 100%; height: auto; display: block; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 14px; }
th { text-align: left; font-weight: 600; color: #5b616b; border-bottom: 1px solid #d5d9e0; padding: 3px 8px 3px 0; }
td { border-bottom: 1px solid #eef0f3; padding: 3px 8px 3px 0; overflow-wrap: anywhere; }
td.n, th.n { text-align: right; white-space: nowrap; }
details summary { cursor: pointer; color: #2f6db5; margin: 8px 0; }
"""


def report_page(name: str, description: str, summaries: dict[str, Any], charts: dict[str, list[Chart]]) -> str:
    """The page over what there is of `dataset_statistics` and `image_statistics`: figures and plots by asset."""
    body = []
    if DATASET_STATISTICS in summaries:
        body.append(_dataset(summaries[DATASET_STATISTICS], charts[DATASET_STATISTICS]))
    if IMAGE_STATISTICS in summaries:
        body.append(_images(summaries[IMAGE_STATISTICS], charts[IMAGE_STATISTICS]))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(name)}: statistics</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_CSS}</style></head>\n<body><main>\n<h1>{escape(name)}</h1>\n"
        f'<p class="lead">{escape(description)}</p>\n{"".join(body)}\n</main></body></html>\n'
    )


def _dataset(summary: dict[str, Any], charts: list[Chart]) -> str:
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
    tables = [
        _card("Rows read that are not among them", _table(("reason", "rows"), read["dropped"].items())),
        _card("Quantiles", _quantiles(summary, ("width", "height", "caption_chars", "similarity"))),
        _card("Pictures by size of both sides", _classes(summary)),
        _card(
            "Rows a source file",
            _table(("", "rows"), [(each, sources[f"{each}_rows"]) for each in ("fewest", "median", "most")])
            + _folded("the first by rows", ("source file", "rows"), sources["most"]),
        ),
    ]
    lists = _card("Domains", _folded("the first 100", ("domain", "rows"), summary["domains"]["most"]))
    return _section("Rows", summary, "parquet files", facts, charts, [*tables, lists])


def _images(summary: dict[str, Any], charts: list[Chart]) -> str:
    rate = summary["success_rate"]
    facts = [
        ("rows tried", summary["rows"]),
        ("pictures", summary["successes"]),
        ("success rate", "-" if rate is None else f"{rate:.1%}"),
        ("domains", summary["domains"]["distinct"]),
        ("domains without a picture", summary["domains"]["without_a_success"]),
    ]
    domains = [(domain, rows, good, f"{good / rows:.1%}") for domain, rows, good in summary["domains"]["most"]]
    tables = [
        _card("Outcomes", _table(("status", "rows"), summary["statuses"])),
        _card("Reasons", _table(("reason", "rows"), summary["reasons"])),
        _card("Quantiles of the fetched originals", _quantiles(summary, ("width", "height"))),
        _card("Pictures by size of both sides", _classes(summary)),
        _card("Domains", _folded("the first 100", ("domain", "rows", "fetched", "rate"), domains)),
    ]
    return _section("Pictures", summary, "shards", facts, charts, tables)


def _section(
    title: str,
    summary: dict[str, Any],
    unit: str,
    facts: list[tuple[str, Any]],
    charts: list[Chart],
    tables: list[str],
) -> str:
    part = summary["partitions"]
    shown = "".join(f'<div class="fact"><b>{_number(value)}</b><span>{label}</span></div>' for label, value in facts)
    plots = "".join(_card(name, svg) for name, svg in charts)
    return (
        f'<h2>{title}</h2><p class="lead">{part["counted"]:,} of {part["declared"]:,} {unit} are published and '
        f'counted.</p><div class="facts">{shown}</div><div class="grid">{plots}{"".join(tables)}</div>\n'
    )


def _card(title: str, content: str) -> str:
    return f'<section class="card"><h3>{escape(title)}</h3>{content}</section>\n'


def _folded(title: str, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    return f"<details><summary>{escape(title)}</summary>{_table(head, rows)}</details>"


def _quantiles(summary: dict[str, Any], measures: Sequence[str]) -> str:
    shares = list(next((summary[measure] for measure in measures if summary[measure]), {}))
    rows = [(f"{float(share):.0%}", *(summary[measure].get(share, "-") for measure in measures)) for share in shares]
    return _table(("of the rows up to", *(measure.replace("_", " ") for measure in measures)), rows)


def _classes(summary: dict[str, Any]) -> str:
    known = [(f"at least {bound} px", rows) for bound, rows in summary["at_least"].items()]
    return _table(("both sides", "rows"), [*known, ("unknown", summary["size_unknown"])])


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Strangers' text (domains, licences) is escaped; all columns but the first are numbers."""
    cells = "".join(f"<th{_class(place)}>{escape(name)}</th>" for place, name in enumerate(head))
    lines = "".join(
        "<tr>" + "".join(f"<td{_class(place)}>{_number(value)}</td>" for place, value in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{lines}</tbody></table>"


def _class(place: int) -> str:
    return ' class="n"' if place else ""


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else escape(str(value))
