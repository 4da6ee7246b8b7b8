"""Settings of the search service."""

from dataclasses import dataclass

from laion_assets.dataset.settings.checks import host_pattern, http_origin, ip_network, nsfw_tag, sha256_digest
from laion_assets.dataset.settings.field import check_settings, setting
from laion_assets.errors import SettingError


@dataclass(frozen=True)
class SearchSettings:
    """What the service shows, and its limits. No setting changes bytes."""

    show: tuple[str, ...] = setting(
        (),
        "NSFW tags of rows that are shown, besides UNLIKELY and rows without a tag; for example UNSURE",
        check=nsfw_tag,
    )
    safety_model: str = setting(
        "",
        "safetensors file of a classifier of image vectors, which hides more rows (docs/operations/safety-model.md); "
        "empty: rows are hidden by their tags only",
    )
    safety_model_sha256: str = setting(
        "", "sha256 of the file of `search.safety_model`, which is refused if it differs", check=sha256_digest
    )
    safety_threshold: float = setting(
        0.5, "score of the safety model above which a row is hidden; clip-retrieval uses 0.5", min=0.0, max=1.0
    )
    refuse_missing_models: bool = setting(
        False,
        "refuse clip-retrieval's `use_safety_model` and `use_violence_detector` if the service has no such model; off, "
        "because its clients send them by default: the header X-Ignored-Fields names them",
    )
    example_queries: tuple[str, ...] = setting(
        (), "queries that the search page offers before the first search", holds_commas=True
    )
    max_k: int = setting(1_000, "maximum number of results of one request", min=1, max=10_000)
    max_export_rows: int = setting(
        1_000, "maximum number of rows of one download (`laion-assets export` has no such limit)", min=1, max=10_000
    )
    max_depth: int = setting(
        10_000,
        "number of nearest rows that filters look at; a filter that matches few of them returns few results",
        min=100,
        max=1_000_000,
    )
    max_terms: int = setting(8, "maximum number of texts and images that one query combines", min=1, max=64)
    max_text_chars: int = setting(
        10_000, "maximum length of a text; CLIP reads only the first 77 tokens", unit="characters", min=10, max=100_000
    )
    max_image_bytes: int = setting(
        20_000_000, "maximum size of the image files of a query, together", unit="bytes", min=1_000, max=1_000_000_000
    )
    image_by_url: bool = setting(
        False, "allow queries by the URL of an image, which the service then downloads; off, because it sends requests"
    )
    concurrency: int = setting(0, "searches that run at the same time; 0 means one per core", min=0, max=1_024)
    queue: int = setting(
        512,
        "requests that wait for a search or an image; above it, the answer is 429 with Retry-After",
        min=0,
        max=100_000,
    )
    client_requests: int = setting(
        100,
        "requests of one client address (of an IPv6 network /64) that are in progress at the same time; above it, the "
        "answer is 429 with Retry-After",
        min=1,
        max=100_000,
    )
    proxies: tuple[str, ...] = setting(
        (),
        "networks of the proxies in front of the service, whose X-Forwarded-For names the client; without them, all "
        "clients of a proxy share the limit of one client",
        check=ip_network,
    )
    max_connections: int = setting(1_000, "maximum number of open connections", min=1, max=100_000)
    deadline_s: float = setting(
        20.0, "time limit of one request, from its first byte to its answer", unit="s", min=0.1, max=3_600.0
    )
    idle_s: float = setting(
        5.0, "time after which a connection without a request is closed", unit="s", min=0.1, max=3_600.0
    )
    cached_rows: int = setting(
        100_000, "rows of metadata kept in memory; a row takes about 1 kB", min=0, max=100_000_000
    )
    refresh_s: float = setting(
        5.0, "interval between two checks for a newly committed index", unit="s", min=0.1, max=86_400.0
    )
    allowed_hosts: tuple[str, ...] = setting(
        (),
        "host names in the URL of the service, besides localhost, loopback addresses and the address it listens on; "
        "*.example.org is a pattern",
        check=host_pattern,
    )
    cors_origins: tuple[str, ...] = setting(
        (), "origins of other web pages that may call the API, for example https://example.org", check=http_origin
    )
    token_file: str = setting(
        "", "file with a token that every request must send as `Authorization: Bearer TOKEN`; empty: no token"
    )
    report_file: str = setting(
        "search-reports.jsonl", "file to which reports of results are appended, one JSON object a line", non_empty=True
    )
    max_report_bytes: int = setting(
        10_000_000, "size of the file of reports above which reports are refused", unit="bytes", min=0, max=1 << 40
    )
    dagster_url: str = setting(
        "", "URL of the Dagster UI that results link to; empty: no links", check=lambda text: http_origin(text, True)
    )
    log_queries: bool = setting(False, "write the texts of queries to the log")

    def __post_init__(self) -> None:
        check_settings(self, "search.")
        if bool(self.safety_model) != bool(self.safety_model_sha256):
            raise SettingError(
                "search.safety_model and search.safety_model_sha256 belong together: set both, or none. Print the "
                "digest with: sha256sum FILE."
            )
