"""Settings of `raw_csv`: how the files of a dataset's source are fetched."""

from dataclasses import dataclass

from laion_assets.dataset.settings.checks import regular_expression
from laion_assets.dataset.settings.field import check_settings, setting


@dataclass(frozen=True)
class CsvSettings:
    """How the CSV files of `source` are fetched. Ports, timeouts and retries also apply to `published` files."""

    pattern: str = setting(
        r"\.(csv(\.gz)?|parquet)$",
        "regular expression, in any letter case, that the path of a source file must match; other files are left out "
        "and counted (`other_pattern`)",
        check=regular_expression,
    )
    downloads: int = setting(100, "parallel downloads of CSV files", unit="connections", min=1, max=10_000)
    connections_per_host: int = setting(
        100,
        "parallel downloads from one host, each over one keep-alive connection",
        unit="connections",
        min=1,
        max=10_000,
    )
    deleted_at_source: str = setting(
        "keep",
        "what happens to fetched files that the source no longer has: keep (and list them in the manifest), remove, or "
        "refuse (the run fails)",
        choices=("keep", "remove", "refuse"),
    )
    partial_folder: str = setting(
        "",
        "folder of unfinished downloads when root is an object store; empty: laion-assets in the user's cache folder. "
        "With a local root they are below root",
    )
    timeout_s: float = setting(30.0, "connect and read timeout", unit="s", min=0.1, max=3_600.0)
    min_bytes_per_s: int = setting(
        1_000,
        "minimum average download rate, measured over csv.timeout_s; a slower download is aborted and resumed",
        unit="bytes/s",
        min=0,
        max=100_000_000,
    )
    allowed_ports: tuple[int, ...] = setting(
        (80, 443),
        "ports that listed URLs, links and redirects may use; hosts named in source, published and resolve are exempt",
        min=1,
        max=65_535,
        non_empty=True,
    )
    max_file_bytes: int = setting(
        10_000_000_000,
        "maximum size of a source file after decoding its Content-Encoding; a larger file is left out (`too_large`)",
        unit="bytes",
        min=1,
        max=1 << 50,
    )
    max_run_bytes: int = setting(
        2_000_000_000_000,
        "maximum number of bytes that a run writes to the disk; then the run fails and keeps its downloads",
        unit="bytes",
        min=1,
        max=1 << 60,
    )
    retries: int = setting(5, "retries of a file after a transient error; each resumes the download", min=0, max=100)

    def __post_init__(self) -> None:
        check_settings(self, "csv.")
