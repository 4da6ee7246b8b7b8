"""Settings of Spark, which runs `dedup_parquet`, and the stages whose setting `distributor` is `spark`."""

from dataclasses import dataclass

from laion_assets.dataset.settings.checks import jvm_memory, spark_master
from laion_assets.dataset.settings.field import check_settings, setting


@dataclass(frozen=True)
class SparkSettings:
    """Where Spark runs and with which configuration."""

    master: str = setting(
        "local[*]", "Spark master: local[*], spark://host:port, yarn or k8s://https://host:port", check=spark_master
    )
    driver_memory: str = setting(
        "2g", "memory of the Spark driver's JVM; with a local master it runs all tasks", check=jvm_memory
    )
    conf: dict[str, str] = setting({}, "additional Spark configuration, by Spark's own property names")

    def __post_init__(self) -> None:
        check_settings(self, "spark.")
