"""Plots as SVG text. The same figures give the same bytes. Only this module imports matplotlib, inside functions."""

import functools
import io
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ParamSpec

from laion_assets.plain_text import one_line
from laion_assets.processes.user import name_user

if TYPE_CHECKING:
    import numpy as np

_BLUE, _SAND, _INK, _FAINT = "#2f6db5", "#e3b778", "#22252b", "#8a8f98"
_LAYERS = ("#2f6db5", "#e3b778", "#5aa469", "#b5563f", "#8472b8", "#4fb0c6", "#b9bec7")
_STYLE = {
    "svg.hashsalt": "laion-assets",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.5,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    # Domains and licences are untrusted text: a $ in them does not start a formula.
    "text.parse_math": False,
}
_LABEL_CHARS = 34
P = ParamSpec("P")


def _apply_style(draw: Callable[P, str]) -> Callable[P, str]:
    """Draw the whole plot in our style. matplotlib reads the style as it creates each text, tick labels last."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **named: P.kwargs) -> str:
        from matplotlib import rc_context

        with rc_context(_STYLE):
            return draw(*args, **named)

    return wrapper


@_apply_style
def histogram(name: str, edges: Sequence[float], rows: Sequence[int], xlabel: str, *, rows_label: str = "rows") -> str:
    """Draw the rows in each [edge, next edge) as bars. `name` makes the ids of the SVG unique in a page."""
    figure, axes = _make_axes(6.4, 2.9)
    widths = [right - left for left, right in pairwise(edges)]
    axes.bar(edges[:-1], rows, width=widths, align="edge", color=_BLUE, edgecolor="white", linewidth=0.4)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(rows_label)
    axes.yaxis.set_major_formatter(lambda value, _: short(value))
    axes.set_xlim(edges[0], edges[-1])
    return _to_svg(figure, name)


@_apply_style
def bars(
    name: str,
    labelled: Sequence[tuple[str, int]],
    parts: Sequence[int] | None = None,
    *,
    legend: tuple[str, str] = ("", ""),
) -> str:
    """Draw one horizontal bar per label, the first on top; with `parts`, that part of each bar in another colour."""
    figure, axes = _make_axes(6.4, 0.55 + 0.235 * max(len(labelled), 2))
    places = range(len(labelled))
    values = [value for _, value in labelled]
    if parts is None:
        axes.barh(places, values, color=_BLUE, height=0.72)
    else:
        axes.barh(places, parts, color=_BLUE, height=0.72, label=legend[0])
        rest = [value - part for value, part in zip(values, parts, strict=True)]
        axes.barh(places, rest, left=parts, color=_SAND, height=0.72, label=legend[1])
        axes.legend(frameon=False, loc="lower right")
    axes.set_yticks(list(places), [_shorten(label) for label, _ in labelled])
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    top = max([*values, 1])
    for place, value in zip(places, values, strict=True):
        axes.text(value + top * 0.01, place, short(value), va="center", fontsize=8.5, color=_FAINT)
    axes.set_xlim(0, top * 1.12)
    return _to_svg(figure, name)


@_apply_style
def line(
    name: str,
    points: Sequence[tuple[float, float]],
    xlabel: str,
    ylabel: str,
    between: Sequence[tuple[float, float]] | None = None,
) -> str:
    """Draw a line through points; with `between`, also a band from the lowest to the highest value at each point."""
    figure, axes = _make_axes(6.4, 2.9)
    across = [x for x, _ in points]
    if between is not None:
        axes.fill_between(across, *zip(*between, strict=True), color=_BLUE, alpha=0.18, linewidth=0)
    axes.plot(across, [y for _, y in points], color=_BLUE, linewidth=1.4, marker="o" if len(points) < 3 else None)
    _label_axes(axes, xlabel, ylabel)
    return _to_svg(figure, name)


@_apply_style
def areas(name: str, across: Sequence[float], layers: Sequence[tuple[str, Sequence[float]]], xlabel: str) -> str:
    """Draw stacked shares of a whole, 0 to 1, in the order of `layers`, each with its label."""
    figure, axes = _make_axes(6.4, 3.4)
    labels = [_shorten(label) for label, _ in layers]
    axes.stackplot(across, *(values for _, values in layers), labels=labels, colors=_LAYERS, linewidth=0)
    _label_axes(axes, xlabel, "share of rows")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    handles, names = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], names[::-1], frameon=False, loc="upper left", bbox_to_anchor=(1, 1), fontsize=8.5)
    return _to_svg(figure, name)


@_apply_style
def density(name: str, counts: "np.ndarray", bounds: tuple[float, float], xlabel: str, ylabel: str, band: float) -> str:
    """Draw a 2-D histogram with both axes from `bounds[0]` to `bounds[1]`: (bins, bins) counts, first index along x.

    A solid line marks equal values, two dashed lines a difference of `band`. The scale is logarithmic, so that a single
    row is visible next to thousands; cells without rows are empty.
    """
    import numpy as np
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    figure, axes = _make_axes(4.8, 4.0)
    shades = LinearSegmentedColormap.from_list("rows", ("#c9dcf2", _BLUE, "#12305a"))
    drawn = axes.imshow(
        np.ma.masked_equal(counts.T, 0),
        origin="lower",
        extent=(*bounds, *bounds),
        cmap=shades,
        norm=LogNorm(1, max(int(counts.max(initial=0)), 10)),
        interpolation="none",
    )
    for shift, style in ((0.0, "-"), (band, "--"), (-band, "--")):
        axes.axline((0, shift), slope=1, color=_FAINT, linewidth=0.8, linestyle=style)
    axes.set_xlim(*bounds)
    axes.set_ylim(*bounds)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    bar = figure.colorbar(drawn, ax=axes, label="rows", format=lambda value, _: short(value))
    bar.outline.set_visible(False)
    return _to_svg(figure, name)


def _label_axes(axes: Any, xlabel: str, ylabel: str) -> None:
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.yaxis.set_major_formatter(lambda value, _: short(value))
    axes.set_ylim(bottom=0)
    axes.margins(x=0)


def short(value: float) -> str:
    """Format a number for an axis: 950, 12.5k, 3M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _make_axes(width: float, height: float) -> tuple[Any, Any]:
    name_user()  # matplotlib caches a list of fonts in the home folder
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=3)
    return figure, axes


def _to_svg(figure: Any, name: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'(\bid="|url\(#|href="#)', lambda found: f"{found[1]}{name}-", text)
    return re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)


def _shorten(label: str) -> str:
    # matplotlib leaves labels with a leading underscore out of the legend.
    label = one_line(label, _LABEL_CHARS)
    return f" {label}" if label.startswith("_") else label
