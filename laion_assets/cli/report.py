"""The report of a finished stage, for the terminal."""

from typing import TYPE_CHECKING

from laion_assets.cli.output import echo
from laion_assets.progress import duration
from laion_assets.stages.registry import find_stage

if TYPE_CHECKING:
    from laion_assets.orchestration.runs import StageReport


def print_report(report: "StageReport") -> None:
    """Print one stage: partitions run, rows in and out, and dropped rows by reason."""
    unit = find_stage(report.asset).unit
    if report.ran:
        work = f"{report.ran} of {report.partitions} partitions run in {duration(report.seconds)}"
    else:
        work = f"{report.partitions} of {report.partitions} partitions complete already: nothing to do"
    echo(f"{report.asset:<20}", bold=True, nl=False)
    echo(f"{report.rows_in:>8,} {unit} in  {report.rows_out:>8,} out   ({work})")
    dropped = sorted(report.reasons.items(), key=lambda item: (-item[1], item[0]))
    if lines := [f"{count:,} {reason}" for reason, count in dropped if count]:
        for number, line in enumerate(_wrap(lines)):
            echo(f"{'':<20}{'' if number else 'dropped:':<9}{line}", dim=True)


def _wrap(items: list[str], width: int = 92) -> list[str]:
    lines = [""]
    for item in items:
        piece = item if not lines[-1] else f", {item}"
        if len(lines[-1]) + len(piece) > width:
            lines[-1] += ","
            lines.append(item)
        else:
            lines[-1] += piece
    return lines
