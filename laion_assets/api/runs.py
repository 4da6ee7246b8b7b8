"""Running stages in this process."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from laion_assets.api.datasets import load_dataset
from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import LayoutError, SettingError
from laion_assets.stages.registry import find_stage, stage_names

if TYPE_CHECKING:
    from laion_assets.orchestration.runs import StageReport
    from laion_assets.stages.plan import StagePlan


@dataclass(frozen=True)
class Materialized:
    """The result of `materialize`: the dataset with its settings, and a report for each stage, in order."""

    dataset: Dataset
    stages: "tuple[StageReport, ...]"

    @property
    def seconds(self) -> float:
        """The seconds of all runs."""
        return sum(stage.seconds for stage in self.stages)


def materialize(
    dataset: Dataset | str,
    *,
    stages: Sequence[str] | None = None,
    partitions: range | None = None,
    retry: str | Sequence[str] = (),
    refresh: bool = True,
    force: bool = False,
    on_report: "Callable[[StageReport], None] | None" = None,
) -> Materialized:
    """Run the incomplete partitions of stages in this process, one stage after the other.

    `stages` are names such as `image_shards`, None for all; they run in the order of the pipeline. `partitions` limits
    one stage to these partition numbers. `retry` (`failed`, `retryable` or reasons) is for `image_shards` alone: it
    fetches the failed rows of complete shards again. With `refresh`, the source is checked for new and changed files
    first. `force` also rebuilds complete partitions. Partitions whose settings changed are rebuilt without a
    question: `plan` shows them before. `on_report` is called after each stage. Complete partitions are
    skipped, and committed partitions are kept when a later one fails. The runs are in the Dagster instance of
    DAGSTER_HOME, `./dagster_home` by default. Raises LaionAssetsError.
    """
    from laion_assets.orchestration.runs import materialize as run_stages
    from laion_assets.stages.image_shards.retry_reasons import parse_run_config
    from laion_assets.stages.plan import check_source
    from laion_assets.stages.status import rebuild_all

    dataset = load_dataset(dataset)
    chosen = select_stages(dataset, stages)
    if partitions is not None and (len(chosen) != 1 or not partitions or partitions.step != 1):
        raise LayoutError(
            f"partitions is {partitions!r} for {len(chosen)} stages. Pass a range of consecutive partition numbers, "
            "such as range(0, 4), and the name of one stage."
        )
    reasons = parse_run_config(retry if isinstance(retry, str) else list(retry)) if retry else ()
    if reasons and not all(find_stage(stage).can_retry_rows for stage in chosen):
        raise SettingError("retry fetches failed rows of image_shards again. Pass stages=['image_shards'] with it.")
    if reasons and force:
        raise SettingError("retry keeps the images of a shard and force rebuilds all of them. Pass one of them.")
    source_changed = bool(refresh and check_source(dataset, chosen))
    reports = run_stages(
        rebuild_all(dataset) if force else dataset,
        chosen,
        partitions,
        on_report or (lambda report: None),
        reasons,
        source_changed=source_changed,
        refresh=refresh,
    )
    return Materialized(dataset, tuple(reports))


def plan(
    dataset: Dataset | str, *, stages: Sequence[str] | None = None, refresh: bool = True, force: bool = False
) -> "tuple[StagePlan, ...]":
    """Return what `materialize` would run in each stage and why, with rows, bytes and a rough time. Changes nothing.

    The arguments are those of `materialize`. Raises LaionAssetsError.
    """
    from laion_assets.stages.plan import check_source, make_plan
    from laion_assets.stages.status import rebuild_all

    dataset = load_dataset(dataset)
    chosen = select_stages(dataset, stages)
    changes = check_source(dataset, chosen) if refresh else None
    return tuple(make_plan(rebuild_all(dataset) if force else dataset, chosen, changes=changes))


def select_stages(dataset: Dataset, stages: Sequence[str] | None) -> list[str]:
    """Return the names of these stages in the order of the pipeline. Raises SettingError for an unknown stage."""
    names = stage_names(dataset)
    if isinstance(stages, str):
        raise SettingError(f"stages is the text {stages!r}. Pass a list of names: [{stages!r}].")
    if unknown := [stage for stage in stages or () if stage not in names]:
        raise SettingError(
            f"The dataset {dataset.name} has no stage {str(unknown[0])!r}. Choose from {', '.join(names)}."
        )
    return names if stages is None else [name for name in names if name in stages]
