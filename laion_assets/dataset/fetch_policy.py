"""The policy for fetches of URLs from data: limits of time, size and number, and honoured opt-outs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from laion_assets.dataset.settings.checks import header_line, token
from laion_assets.dataset.settings.field import check_settings, setting
from laion_assets.errors import SettingError

MIN_RATE_GRACE_S = 5.0
"""Seconds after the first byte of a response, before its average rate is checked."""


@dataclass(frozen=True)
class FetchPolicy:
    """The settings `images.fetch`, and the dataset's addresses: what one fetch may do. Picklable.

    `deadline_s` counts from the moment a request may start. `host_wait_s` limits the queueing time before that: for the
    host's other requests, for the end of its Retry-After, and for memory. `max_bytes_in_flight` is for all bodies of a
    fetcher together; the first `FREE_BYTES` of each body do not count.

    Four fields are not settings: `Dataset.fetch_policy` sets `resolve`, `blocked_networks` and `allow_networks`, and
    `ca_file` replaces the system's CA certificates.

    Raises SettingError for a value out of bounds and for limits that contradict each other.
    """

    connect_timeout_s: float = setting(5.0, "connect and read timeout", unit="s", min=0.1, max=600.0)
    deadline_s: float = setting(
        20.0, "time limit for one URL, including redirects and the body", unit="s", min=0.1, max=3_600.0
    )
    max_body_bytes: int = setting(
        20_000_000, "size limit for one body; reading stops at it", unit="bytes", min=10_000, max=2_000_000_000
    )
    max_bytes_in_flight: int = setting(
        256_000_000,
        "memory budget of a worker process for all bodies over 512 KiB; further bodies wait until others are resized",
        unit="bytes",
        min=20_000,
        max=1_000_000_000_000,
    )
    min_bytes_per_s: int = setting(
        1_000,
        "minimum average download rate, measured from 5 s after the first byte; a slower response fails (`deadline`). "
        "0: no minimum",
        unit="bytes/s",
        min=0,
        max=1_000_000,
    )
    max_redirects: int = setting(10, "redirects followed for one URL; urllib's limit", min=0, max=50)
    retries: int = setting(
        1, "further tries after a transient failure (connection reset, short body, DNS failure, 5xx)", min=0, max=10
    )
    requests_per_host: int = setting(
        6,
        "parallel requests of a worker process to one host; further requests wait. Browsers use 6",
        min=1,
        max=1_000,
    )
    requests_per_address: int = setting(
        24,
        "parallel requests of a worker process to one IP address, for all its host names together; further requests "
        "wait",
        min=1,
        max=10_000,
    )
    max_retry_after_s: float = setting(
        30.0,
        "longest Retry-After that is waited for; with a longer one, the host's URLs fail as `host_busy`",
        unit="s",
        min=0.0,
        max=86_400.0,
    )
    host_wait_s: float = setting(
        240.0,
        "queue timeout: longest time that a URL waits for its host's other requests and Retry-After (then it fails as "
        "`host_busy`) and for memory (`local_failure`). Not part of deadline_s. 64 threads at one host with 6 slow "
        "requests at a time wait for up to 213 s",
        unit="s",
        min=0.1,
        max=86_400.0,
    )
    idle_connections: int = setting(
        128,
        "connections that a worker process keeps open for the next request to the same host; 0: each is closed",
        min=0,
        max=10_000,
    )
    allowed_ports: tuple[int, ...] = setting(
        (80, 443), "ports that a URL may use; hosts in `resolve` are exempt", min=1, max=65_535, non_empty=True
    )
    user_agent: str = setting(
        "laion-assets/0.1 (+https://github.com/laion-assets/laion-assets)",
        "User-Agent header. Identify yourself, with a contact",
        check=header_line,
    )
    opt_out_directives: tuple[str, ...] = setting(
        ("noai", "noimageai", "noindex", "noimageindex"),
        "X-Robots-Tag directives that count as an opt-out (img2dataset's list); TDM-Reservation: 1 always does",
        check=token,
    )
    opt_out_tokens: tuple[str, ...] = setting(
        ("laion-assets", "img2dataset"), "bot names whose X-Robots-Tag directives apply to this fetcher", check=token
    )
    opt_out_usages: tuple[str, ...] = setting(
        ("train-ai", "train-genai"),
        "categories of the AIPREF header Content-Usage whose value n counts as an opt-out; train-genai is from an "
        "earlier draft",
        check=token,
    )
    robots_txt: bool = setting(
        False,
        "fetch each host's robots.txt first and honour it (RFC 9309). Off by default, as in img2dataset: most hosts "
        "serve one row, so this nearly doubles requests and time",
    )
    resolve: Mapping[str, str] = field(default_factory=dict)
    blocked_networks: tuple[str, ...] = ()
    allow_networks: tuple[str, ...] = ()
    ca_file: str | None = None

    def __post_init__(self) -> None:
        check_settings(self, "images.fetch.")
        if self.deadline_s < self.connect_timeout_s:
            raise SettingError(
                f"images.fetch.deadline_s ({self.deadline_s}) is shorter than images.fetch.connect_timeout_s "
                f"({self.connect_timeout_s}). Raise the deadline or lower the timeout."
            )
        if self.max_bytes_in_flight < 2 * self.max_body_bytes:
            raise SettingError(
                f"images.fetch.max_bytes_in_flight ({self.max_bytes_in_flight}) must be at least 2 x "
                f"images.fetch.max_body_bytes ({self.max_body_bytes}). Raise the first to {2 * self.max_body_bytes}, "
                "or lower the second."
            )

    @property
    def key(self) -> tuple[object, ...]:
        """A hashable value that is equal for equal policies; the order of `resolve` counts."""
        return tuple(tuple(value.items()) if isinstance(value, Mapping) else value for value in vars(self).values())
