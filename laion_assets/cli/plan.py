"""The plan of `laion-assets materialize`: its lines, and the question before work is repeated."""

import sys
from collections.abc import Sequence

import click

from laion_assets.cli.output import echo
from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import SettingError
from laion_assets.plain_text import one_line
from laion_assets.progress import duration
from laion_assets.stages.plan import StagePlan
from laion_assets.stages.registry import find_stage

_NAMED = 3


def print_plan(plans: Sequence[StagePlan]) -> None:
    """Print a line for each stage, and the changed settings and files below it."""
    for plan in plans:
        echo(f"{plan.stage:<20}", bold=True, nl=False)
        echo(_describe(plan), fg=None if plan.is_idle else "yellow")
        for change in plan.changed_settings:
            echo(f"{'':<20}{change}", dim=True)
        for file in plan.changed_files[:_NAMED]:
            echo(f"{'':<20}{file}", dim=True)
        if plan.changed_file_count > _NAMED:
            echo(f"{'':<20}and {plan.changed_file_count - _NAMED:,} more files", dim=True)


def confirm_repeated_work(dataset: Dataset, plans: Sequence[StagePlan], *, is_allowed: bool, is_forced: bool) -> None:
    """Ask before committed partitions are downloaded or encoded again because of changed settings or `--force`.

    Without a terminal, raises SettingError in place of the question. `is_allowed` (`--yes`) answers it.
    """
    sentence = describe_repeated_work(dataset, plans, is_forced)
    if not sentence or is_allowed:
        return
    if not is_terminal():
        raise SettingError(f"{sentence} Nothing was changed. To do it, add --yes; to see the whole plan, --dry-run.")
    click.confirm(one_line(f"{sentence} Continue?"), abort=True)


def is_terminal() -> bool:
    """Whether a person can answer a question."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def describe_repeated_work(dataset: Dataset, plans: Sequence[StagePlan], is_forced: bool) -> str:
    """Return one sentence with the settings that changed and the partitions that are repeated; empty if none are."""
    works = []
    for plan in plans:
        stage = find_stage(plan.stage)
        if stage.repeats and plan.repeated:
            certain = plan.repeated <= plan.to_run
            count = f"{'' if certain else 'up to '}{plan.repeated:,} partition{'s' if plan.repeated > 1 else ''}"
            works.append(f"{stage.repeats} {count} of {dataset.name}/{plan.stage} again")
    if not works:
        return ""
    changes = {change.name: str(change) for plan in plans for change in plan.changed_settings}
    stale = [plan.stage for plan in plans if plan.why.get("settings changed") and not plan.changed_settings]
    causes = [*changes.values()]
    if stale:
        causes.append(f"settings of {', '.join(stale)} changed (the old values are not recorded)")
    if is_forced:
        causes.append("--force is given")
    return f"{'; '.join(causes)}: this run would {' and '.join(works)}."


def _describe(plan: StagePlan) -> str:
    if plan.is_idle:
        return f"nothing to do ({plan.partitions:,} partition{'s' if plan.partitions > 1 else ''})"
    parts = []
    if plan.to_run:
        why = ", ".join(f"{count:,} {reason}" for reason, count in plan.why.items())
        parts.append(f"run {plan.to_run:,} of {plan.partitions:,}: {why}")
    if plan.may_run:
        parts.append(f"{'and ' if plan.to_run else ''}up to {plan.may_run:,} whose input is rebuilt")
    found = plan.estimate
    sizes = [] if found.rows is None else [f"{found.rows:,} rows"]
    sizes += [] if found.bytes is None else [f"{found.bytes / 1e6:,.1f} MB"]
    sizes.append("time unknown" if found.seconds is None else f"about {duration(found.seconds)}")
    return " ".join([*parts, f"({', '.join(sizes)})"] if plan.to_run else parts)
