"""Settings of the metadata stages."""

from dataclasses import dataclass

from laion_assets.metadata.row_filter import RowFilter
from laion_assets.settings.field import setting


@dataclass(frozen=True)
class MetadataSettings:
    """How crawl CSVs are fetched, read and deduplicated."""

    pattern: str = setting(
        r"\.(csv(\.gz)?|parquet)$", "regular expression that a file of the source must match to be fetched"
    )
    downloads: int = setting(100, "parallel downloads of CSV files", unit="connections")
    connections_per_host: int = setting(
        100, "of them at most so many from one host, each over a connection that is kept", unit="connections"
    )
    vanished: str = setting(
        "keep",
        "published files that the source no longer has: keep (flagged in the manifest), remove, or refuse to go on",
    )
    partial_folder: str = setting(
        "", "where downloads in the making lie when root is an object store (else below root); ~/.cache/laion-assets"
    )
    stall_timeout_s: float = setting(30.0, "longest wait for the source to connect, and for a byte of it", unit="s")
    min_bytes_per_s: int = setting(
        1_000, "a download slower than this over the stall timeout is broken off and resumed", unit="bytes/s"
    )
    allowed_ports: tuple[int, ...] = setting(
        (80, 443),
        "ports that listed URLs, links and redirects may name; hosts of the settings (source, published, resolve) are "
        "exempt",
    )
    max_file_bytes: int = setting(
        10_000_000_000, "a source file that is larger, or decodes to more, is left out (`too_large`)", unit="bytes"
    )
    max_run_bytes: int = setting(
        2_000_000_000_000, "a fetch that writes more to the disk ends; what came is kept", unit="bytes"
    )
    retries: int = setting(5, "further tries for a CSV file after a fault that may pass; each resumes where it was")
    separator: str = setting("|", "field separator of the CSV files", changes_bytes=True)
    required_columns: tuple[str, ...] = setting(
        ("URL", "TEXT", "similarity"),
        "a CSV whose header lacks one is left out, its rows counted (the recipe leaves out those without similarity)",
        changes_bytes=True,
    )
    max_url_chars: int = setting(4_096, "a longer URL quarantines its row", unit="characters", changes_bytes=True)
    max_caption_chars: int = setting(
        100_000, "a longer caption quarantines its row", unit="characters", changes_bytes=True
    )
    swapped_sides: bool = setting(
        False,
        "the source has HEIGHT and WIDTH swapped, as LAION-400M was published: store them the right way round",
        changes_bytes=True,
    )
    where: RowFilter = RowFilter()
    master: str = setting("local[*]", "Spark master: local[*], spark://host:port, yarn or k8s://...")
    driver_memory: str = setting("2g", "memory of Spark's driver; in local mode the whole engine's")
    spark_conf: dict[str, str] = setting({}, "further Spark configuration, by Spark's own names")
