"""Numbers for people: `4,993`, `94.6 %`, `52.1 MB`, `3 min 20 s`, and sentences of them."""

from collections.abc import Mapping

from laion_assets.progress import duration
from laion_assets.stages.stage import Stage
from laion_assets.stages.totals import Totals
from laion_assets.store.manifest import Manifest

_UNITS = ("kB", "MB", "GB", "TB", "PB", "EB")


def readable_bytes(size: float) -> str:
    """Format a number of bytes in decimal units: `830 bytes`, `52.1 MB`."""
    if size < 1_000:
        return f"{size:,.0f} bytes"
    unit = -1
    while size >= 999.95 and unit + 1 < len(_UNITS):
        size, unit = size / 1_000, unit + 1
    return f"{size:,.1f} {_UNITS[unit]}"


def readable_share(part: int, whole: int) -> str:
    """Format a share: `94.6 %`; `-` of nothing. Only all rows are 100 %, and only none are 0 %."""
    if not whole:
        return "-"
    percent = 100 * part / whole
    if 0 < part < whole:
        percent = min(max(percent, 0.1), 99.9)
    return f"{percent:.1f} %" if part not in (0, whole) else f"{percent:.0f} %"


def summarize_partition(stage: Stage, manifest: Manifest) -> str:
    """Return one line on a partition: rows in and out, bytes, files, time."""
    counts = manifest.counts
    parts = [_rows(stage, counts.rows_in, counts.rows_out)]
    files = len(manifest.files)
    parts.append(f"{readable_bytes(manifest.size)} in {files:,} file{'s' if files != 1 else ''}")
    if manifest.seconds and not manifest.is_adopted:
        parts.append(f"took {duration(manifest.seconds)}")
    return ", ".join(parts)


def summarize_totals(stage: Stage, totals: Totals) -> str:
    """Return one line on all committed partitions of a stage."""
    return (
        f"{totals.committed:,} of {totals.declared:,} partitions, "
        f"{_rows(stage, totals.rows_in, totals.rows_out)}, {readable_bytes(totals.bytes)}"
    )


def reason_rows(reasons: Mapping[str, int], rows_in: int) -> list[tuple[str, int, str]]:
    """Return reason, rows and share of the input of each reason that has rows, the most frequent first."""
    ordered = sorted(reasons.items(), key=lambda each: (-each[1], each[0]))
    return [(reason, count, readable_share(count, rows_in)) for reason, count in ordered if count]


def _rows(stage: Stage, rows_in: int, rows_out: int) -> str:
    if rows_in == rows_out:
        return f"{rows_out:,} {stage.unit}"
    return f"{rows_out:,} of {rows_in:,} {stage.unit} kept ({readable_share(rows_out, rows_in)})"
