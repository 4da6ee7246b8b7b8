"""What a fetch may do: the picklable bounds of time, size, number and consent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

from laion_assets.errors import SettingError


@dataclass(frozen=True)
class FetchPolicy:
    """What one fetch may do. Times in seconds, sizes in bytes; picklable. `ca_file` replaces the system's CAs.

    `deadline_s` counts from the moment a request may start: what a URL waits for its host's turn, for the end of a
    host's Retry-After or for memory is bounded by `host_wait_s` instead. `max_bytes_in_flight` is for all bodies of a
    fetcher together, beside `FREE_BYTES` each. `min_bytes_per_s` is an average, judged from `min_rate_grace_s` after
    an answer's first byte on; 0 asks for none. `idle_connections` 0 makes each request close its connection.
    """

    connect_timeout_s: float = 5.0
    deadline_s: float = 20.0
    max_body_bytes: int = 20_000_000
    max_bytes_in_flight: int = 256_000_000
    min_bytes_per_s: int = 1_000
    min_rate_grace_s: float = 5.0
    max_redirects: int = 10
    retries: int = 1
    requests_per_host: int = 6
    requests_per_address: int = 24
    max_retry_after_s: float = 30.0
    host_wait_s: float = 240.0
    idle_connections: int = 128
    allowed_ports: tuple[int, ...] = (80, 443)
    user_agent: str = "laion-assets"
    opt_out_directives: tuple[str, ...] = ("noai", "noimageai", "noindex", "noimageindex")
    opt_out_tokens: tuple[str, ...] = ("laion-assets", "img2dataset")
    opt_out_usages: tuple[str, ...] = ("train-ai", "train-genai")
    robots_txt: bool = False
    resolve: Mapping[str, str] = field(default_factory=dict)
    blocked_networks: tuple[str, ...] = ()
    ca_file: str | None = None

    def __post_init__(self) -> None:
        if not (self.user_agent.isascii() and self.user_agent.isprintable() and self.user_agent.strip()):
            raise SettingError(
                f"images.user_agent is {self.user_agent!r}: it goes into a header, so give one line of printable ASCII."
            )

    @classmethod
    def of(
        cls, settings: object, resolve: Mapping[str, str] | None = None, blocked_networks: Sequence[str] = ()
    ) -> "FetchPolicy":
        """The policy of a stage's settings (fields of the same names) and of the dataset's addresses."""
        named = {each.name: getattr(settings, each.name) for each in fields(cls) if hasattr(settings, each.name)}
        return cls(**{**named, "resolve": dict(resolve or {}), "blocked_networks": tuple(blocked_networks)})

    @property
    def key(self) -> tuple[object, ...]:
        """What makes two policies the same, hashable; the order of `resolve` counts."""
        return tuple(tuple(value.items()) if isinstance(value, Mapping) else value for value in vars(self).values())
