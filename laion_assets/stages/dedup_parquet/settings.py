"""Settings of the metadata stages."""

from dataclasses import dataclass

from laion_assets.dataset.settings.checks import jvm_memory, one_separator, regular_expression, spark_master
from laion_assets.dataset.settings.field import check_settings, setting
from laion_assets.errors import SettingError
from laion_assets.stages.dedup_parquet.rows.row_filter import RowFilter
from laion_assets.tables.table_limits import TableLimits


@dataclass(frozen=True)
class MetadataSettings:
    """How crawl CSVs are fetched, read and deduplicated."""

    pattern: str = setting(
        r"\.(csv(\.gz)?|parquet)$",
        "regular expression that a file of the source must match to be fetched, in any letter case; others are counted",
        check=regular_expression,
    )
    downloads: int = setting(100, "parallel downloads of CSV files", unit="connections", min=1, max=10_000)
    connections_per_host: int = setting(
        100,
        "of them at most so many from one host, each over a connection that is kept",
        unit="connections",
        min=1,
        max=10_000,
    )
    deleted_at_source: str = setting(
        "keep",
        "published files that the source no longer has: keep (flagged in the manifest), remove, or refuse to go on",
        choices=("keep", "remove", "refuse"),
    )
    partial_folder: str = setting(
        "", "where downloads in the making lie when root is an object store (else below root); ~/.cache/laion-assets"
    )
    stall_timeout_s: float = setting(
        30.0, "longest wait for the source to connect, and for a byte of it", unit="s", min=0.1, max=3_600.0
    )
    min_bytes_per_s: int = setting(
        1_000,
        "a download slower than this over the stall timeout is broken off and resumed",
        unit="bytes/s",
        min=0,
        max=100_000_000,
    )
    allowed_ports: tuple[int, ...] = setting(
        (80, 443),
        "ports that listed URLs, links and redirects may name; hosts of the settings (source, published, resolve) are "
        "exempt",
        min=1,
        max=65_535,
        non_empty=True,
    )
    max_file_bytes: int = setting(
        10_000_000_000,
        "a source file that is larger, or decodes to more, is left out (`too_large`)",
        unit="bytes",
        min=1,
        max=1 << 50,
    )
    max_run_bytes: int = setting(
        2_000_000_000_000,
        "a fetch that writes more to the disk ends; what came is kept",
        unit="bytes",
        min=1,
        max=1 << 60,
    )
    retries: int = setting(
        5, "further tries for a CSV file after a fault that may pass; each resumes where it was", min=0, max=100
    )
    separator: str = setting("|", "field separator of the CSV files", check=one_separator, changes_bytes=True)
    required_columns: tuple[str, ...] = setting(
        ("URL", "TEXT", "similarity"),
        "columns that a CSV must have, by any name, in any letter case, TEXT also as caption; a file that lacks one is "
        "left out and its rows counted (the recipe leaves out files without similarity)",
        changes_bytes=True,
    )
    max_url_chars: int = setting(
        4_096, "a longer URL quarantines its row", unit="characters", min=16, max=65_536, changes_bytes=True
    )
    max_caption_chars: int = setting(
        100_000, "a longer caption quarantines its row", unit="characters", min=1, max=1_000_000, changes_bytes=True
    )
    width_height_swapped: bool = setting(
        False,
        "the source has HEIGHT and WIDTH swapped, as LAION-400M was published: store them the right way round",
        changes_bytes=True,
    )
    where: RowFilter = RowFilter()
    limits: TableLimits = TableLimits()
    master: str = setting(
        "local[*]", "Spark master: local[*], spark://host:port, yarn or k8s://...", check=spark_master
    )
    driver_memory: str = setting("2g", "memory of Spark's driver; in local mode the whole engine's", check=jvm_memory)
    spark_conf: dict[str, str] = setting({}, "further Spark configuration, by Spark's own names")

    def __post_init__(self) -> None:
        check_settings(self, "metadata.")
        shortest = self.where.min_caption_chars
        if shortest is not None and shortest > self.max_caption_chars:
            raise SettingError(
                f"metadata.where.min_caption_chars is {shortest} and metadata.max_caption_chars is "
                f"{self.max_caption_chars}: no row can meet both. Lower the first or raise the second."
            )
