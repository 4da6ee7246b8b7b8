"""Draw line plots as SVG, one above the other, without a plotting library."""

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT, MARGIN = 900, 190, 60
COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#7d3ac1", "#b8860b")
Points = Sequence[tuple[float, float]]


def line_plots(plots: Mapping[str, Mapping[str, Points]], horizontal: str) -> str:
    """Return an SVG with one plot per measure and one line per series. `plots` has points by series by measure."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT * len(plots) + 30}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
    ]
    for number, (measure, lines) in enumerate(plots.items()):
        parts += _plot(measure, lines, number * HEIGHT + 24)
    parts.append(f'<text x="{WIDTH / 2}" y="{HEIGHT * len(plots) + 20}">{escape(horizontal)}</text></svg>')
    return "\n".join(parts)


def _plot(measure: str, lines: Mapping[str, Points], top: float) -> list[str]:
    right = max((x for points in lines.values() for x, _ in points), default=0) or 1
    high = max((y for points in lines.values() for _, y in points), default=0) or 1
    wide, tall = WIDTH - 2 * MARGIN, HEIGHT - 50
    parts = [
        f'<text x="{MARGIN}" y="{top - 6}" font-weight="bold">{escape(measure)}</text>',
        f'<path d="M{MARGIN} {top} V{top + tall} H{MARGIN + wide}" stroke="#999" fill="none"/>',
        f'<text x="{MARGIN - 6}" y="{top + 10}" text-anchor="end">{high:g}</text>',
        f'<text x="{MARGIN - 6}" y="{top + tall}" text-anchor="end">0</text>',
        f'<text x="{MARGIN + wide}" y="{top + tall + 14}" text-anchor="end">{right:g}</text>',
    ]
    for number, (name, points) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{MARGIN + x / right * wide:.1f},{top + tall - y / high * tall:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}"/>')
        parts.append(f'<text x="{MARGIN + 200 + 90 * number}" y="{top - 6}" fill="{colour}">{escape(name)}</text>')
    return parts
