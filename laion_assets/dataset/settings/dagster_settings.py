"""Settings of a dataset's assets, jobs, schedule and sensors in Dagster."""

from dataclasses import dataclass

from laion_assets.dataset.settings.checks import cron_schedule, is_tag_key, owner, tag_value
from laion_assets.dataset.settings.field import check_settings, setting
from laion_assets.errors import SettingError


@dataclass(frozen=True)
class DagsterSettings:
    """When Dagster starts runs of a dataset, and how its assets are described. None of it changes files."""

    automation: str = setting(
        "none",
        "when Dagster's daemon starts runs by itself. on_missing: for missing partitions whose inputs are complete. "
        "eager: also when inputs were materialized again",
        choices=("none", "eager", "on_missing"),
    )
    schedule: str = setting(
        "0 3 * * *",
        "when the schedule NAME_daily runs the job NAME_all, as a cron expression in UTC. The schedule is off until it "
        "is switched on in the Dagster UI",
        check=cron_schedule,
    )
    source_check_s: int = setting(
        3_600,
        "how often the sensor NAME_new_files lists the source. The sensor is off until it is switched on in the "
        "Dagster UI",
        unit="s",
        min=30,
        max=31_536_000,
    )
    owners: tuple[str, ...] = setting((), "owners of the assets: e-mail addresses, or team: and a name", check=owner)
    tags: dict[str, str] = setting({}, "tags of the assets and jobs, to search and select them by", check=tag_value)

    def __post_init__(self) -> None:
        check_settings(self, "dagster.")
        for key in self.tags:
            if not is_tag_key(key):
                raise SettingError(
                    f"dagster.tags has the key {key[:80]!r}: use letters, digits and _.-, at most 63, optionally after "
                    "a namespace other than dagster, for example team or example.org/team."
                )
