"""The page: the results of each query, recall and latency, without scripts and without network requests.

`report.html` is its template. Jinja escapes every value, and a policy in the page forbids scripts and requests. Images
are in the page itself.
"""

import base64
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from laion_assets.plain_text import one_line
from laion_assets.stages.plots import line

CAPTION_CHARS = 300
"""Longer captions are truncated in the page; `report.json` has them in full."""
_HIDDEN = "that are not tagged UNLIKELY (NSFW, UNSURE and untagged)"
_HIDDEN_BY_TAG = "with another tag than UNLIKELY (NSFW, UNSURE)"


def report_page(
    description: str, figures: Mapping[str, Any], thumbnails: Mapping[int, bytes], *, show_untagged: bool = False
) -> str:
    """Render the page from the figures (`report.json`) and a JPEG of each row.

    It is empty for an image that is not stored or does not decode.
    """
    environment = Environment(
        loader=PackageLoader(__package__, ""), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["line"] = _line
    environment.filters["caption"] = lambda caption: one_line(caption, CAPTION_CHARS)
    addresses = {row: _to_data_url(jpeg) for row, jpeg in thumbnails.items() if jpeg}
    return environment.get_template("report.html").render(
        description=description,
        figures=figures,
        facts=_facts(figures),
        images=addresses,
        plots=draw_plots(figures),
        hidden=_HIDDEN_BY_TAG if show_untagged else _HIDDEN,
    )


def draw_plots(figures: Mapping[str, Any]) -> list[tuple[str, Markup]]:
    """Draw the similarity of the results by rank as titled SVG; nothing without results."""
    ranks = _similarities_by_rank(figures["queries"])
    if not ranks:
        return []
    points = [(float(rank), median(values)) for rank, values in enumerate(ranks, 1)]
    between = [(min(values), max(values)) for values in ranks]
    drawn = line("search-similarity", points, "rank of the result", "cosine similarity", between)
    return [("Similarity by rank: median, lowest to highest query", Markup(drawn))]  # noqa: S704 - drawn by plots.py


def _similarities_by_rank(queries: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    deepest = max((len(query["results"]) for query in queries), default=0)
    return [
        [max(query["results"][rank]["similarity"], 0) for query in queries if rank < len(query["results"])]
        for rank in range(deepest)
    ]


def _facts(figures: Mapping[str, Any]) -> list[tuple[str, Any]]:
    recall = {each["kind"]: each["recall_at_10"] for each in figures["recall"] if each["index"] == "image"}
    whole = figures["latency"][-1]
    copies = figures["near_duplicates"]
    found = [(f"recall@10 by {kind}", f"{recall[kind]:.3f}") for kind in ("text", "caption") if kind in recall]
    if copies["images"]:
        found.append(("originals first for changed copies", f"{copies['first']:,} of {copies['images']:,}"))
    return [
        ("images", figures["vectors"]),
        *found,
        ("text query, p50", f"{whole['p50_ms']:.1f} ms"),
        ("text query, p99", f"{whole['p99_ms']:.1f} ms"),
    ]


def _to_data_url(jpeg: bytes) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def _line(value: Any) -> str:
    """A number with thousands separators, or one line of text; Jinja escapes it."""
    return f"{value:,}" if isinstance(value, int) else one_line(value)
