"""The Dagster definitions of a dataset: its assets, checks, IO managers and resources.

Importing this module imports neither torch, pyspark, img2dataset nor faiss: a code location loads in seconds.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import dagster as dg

warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)

from laion_assets.dataset.dataset import Dataset  # noqa: E402
from laion_assets.dataset.settings.resolution import resolve_settings  # noqa: E402
from laion_assets.orchestration.automation.conditions import build_automation_sensors  # noqa: E402
from laion_assets.orchestration.automation.jobs import build_jobs  # noqa: E402
from laion_assets.orchestration.automation.triggers import build_schedule, build_source_sensor  # noqa: E402
from laion_assets.orchestration.checks.row_counts import row_count_checks  # noqa: E402
from laion_assets.orchestration.checks.up_to_date import up_to_date_checks  # noqa: E402
from laion_assets.orchestration.declaration import asset_key, io_manager_key, own_stages  # noqa: E402
from laion_assets.orchestration.resource_keys import resource_key  # noqa: E402
from laion_assets.orchestration.resources.clip_model import ClipModelResource  # noqa: E402
from laion_assets.orchestration.resources.crawl_site import CrawlSiteResource  # noqa: E402
from laion_assets.orchestration.resources.run_log import run_log  # noqa: E402
from laion_assets.orchestration.resources.spark import SparkResource  # noqa: E402
from laion_assets.orchestration.stage_parts import load_asset, load_io_manager  # noqa: E402
from laion_assets.stages.registry import list_stages  # noqa: E402
from laion_assets.stages.stage import Stage  # noqa: E402


def build_definitions(dataset: Dataset) -> dg.Definitions:
    """Return the assets, checks, jobs, schedule, sensors, IO managers and resources of a dataset.

    Applies the settings file and the environment to the dataset first. Every key begins with the name of the dataset,
    so that one project can hold several datasets. The embedding sets of the dataset are part of its graph: their assets
    begin with its image shards. Raises SettingError.
    """
    dataset = resolve_settings(dataset)
    sets = [resolve_settings(dataset.embedding_set(each.name)) for each in dataset.embedding_sets]
    jobs = build_jobs(dataset, sets)
    parts = [(dataset, list_stages(dataset)), *((each, own_stages(each)) for each in sets)]
    return dg.Definitions(
        assets=[load_asset(stage, each) for each, stages in parts for stage in stages],
        asset_checks=[
            check
            for each, stages in parts
            for check in (*row_count_checks(each, stages), *up_to_date_checks(each, stages))
        ],
        jobs=jobs,
        schedules=[build_schedule(dataset, jobs[0])],
        sensors=[
            build_source_sensor(dataset, jobs[0]),
            *build_automation_sensors(
                dataset, [asset_key(each, stage.name) for each, stages in parts for stage in stages]
            ),
        ],
        resources={key: resource for each, stages in parts for key, resource in _resources(each, stages).items()},
        loggers={"console": run_log},
        # A run has one stage: its step runs in the run's own process, which starts the workers, the JVM or the site.
        executor=dg.in_process_executor,
    )


def _resources(dataset: Dataset, stages: Sequence[Stage]) -> dict[str, Any]:
    """Return the IO managers of these stages, and what their assets and checks share, by key."""
    return {
        **{io_manager_key(stage, dataset): load_io_manager(stage, dataset) for stage in stages},
        resource_key(dataset, "spark"): SparkResource(
            master=dataset.spark.master,
            driver_memory=dataset.spark.driver_memory,
            conf=dataset.spark.conf,
        ),
        resource_key(dataset, "clip_model"): ClipModelResource(
            model=dataset.model,
            device=dataset.embeddings.device,
            precision=dataset.embeddings.precision,
            reader_processes=dataset.embeddings.reader_processes,
            cpu_threads=dataset.embeddings.cpu_threads,
        ),
        resource_key(dataset, "crawl_site"): CrawlSiteResource(),
    }
