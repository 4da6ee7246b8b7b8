"""Dry run of one URL: fetched, checked and resized as a row of a shard, without writing anything."""

from dataclasses import dataclass, field, replace

from laion_assets.dataset.dataset import Dataset
from laion_assets.http.clock import Clock
from laion_assets.http.fetch import Fetched, Fetcher, Hop
from laion_assets.http.urls.target import parse_target
from laion_assets.reasons import Reason, Rejection
from laion_assets.stages.image_shards.settings import ImageSettings

CONSENT_HEADERS = ("x-robots-tag", "tdm-reservation", "tdm-policy", "content-usage")


@dataclass(frozen=True)
class HopPreview:
    """One request, the first or after a redirect.

    `addresses` has a dict for every address of the host, with `address` and the guard's `verdict`. `robots_txt` is the
    result of the site's robots.txt. `seconds` are by phase, None for a phase that did not happen.
    """

    url: str
    address: str | None
    http_status: int | None
    addresses: tuple[dict[str, str], ...]
    robots_txt: str
    connection_reused: bool
    seconds: dict[str, float | None]


@dataclass(frozen=True)
class UrlPreview:
    """The outcome of one URL. Sizes in pixels and bytes, times in seconds; None for what there is not.

    `status` is img2dataset's, `reason` the value of a `Reason`. `consent` has the opt-out headers of the last response.
    """

    url: str
    status: str
    reason: str
    detail: str
    final_url: str
    hops: tuple[HopPreview, ...] = field(repr=False)
    consent: tuple[str, ...]
    http_status: int | None
    bytes: int
    wire_bytes: int
    original_width: int | None
    original_height: int | None
    width: int | None
    height: int | None
    seconds: float
    attempts: int


def preview_url(url: str, dataset: Dataset | None = None) -> UrlPreview:
    """Fetch one URL and resize its image exactly as a shard does.

    With a dataset its image settings, `resolve` and blocked networks apply. Without, the strict defaults apply:
    globally reachable addresses only.
    """
    images = dataset.images if dataset is not None else ImageSettings()
    fetcher = Fetcher(dataset.fetch_policy if dataset is not None else images.fetch)
    try:
        fetched = fetcher.fetch(url)
        preview = _preview(fetched, fetcher)
    finally:
        fetcher.close()
    if fetched.reason is not Reason.SUCCESS:
        return preview
    from laion_assets.stages.image_shards.decoding.decoder_process import reencode

    image = reencode(images, fetched.body)
    return replace(
        preview,
        status=image.reason.status,
        reason=image.reason.value,
        detail=image.detail,
        original_width=image.original_width,
        original_height=image.original_height,
        width=image.width,
        height=image.height,
    )


def _preview(fetched: Fetched, fetcher: Fetcher) -> UrlPreview:
    return UrlPreview(
        url=fetched.url,
        status=fetched.reason.status,
        reason=fetched.reason.value,
        detail=fetched.detail,
        final_url=fetched.final_url,
        hops=tuple(_preview_hop(hop, fetcher) for hop in fetched.hops),
        consent=tuple(f"{name}: {value}" for name, value in fetched.headers if name in CONSENT_HEADERS),
        http_status=fetched.status,
        bytes=len(fetched.body),
        wire_bytes=fetched.wire_bytes,
        original_width=None,
        original_height=None,
        width=None,
        height=None,
        seconds=fetched.seconds,
        attempts=fetched.attempts,
    )


def _preview_hop(hop: Hop, fetcher: Fetcher) -> HopPreview:
    phases = {
        "dns": hop.dns_s,
        "waited": hop.waited_s,
        "connect": hop.connect_s,
        "tls": hop.tls_s,
        "first_byte": hop.first_byte_s,
        "body": hop.body_s,
    }
    addresses, robots = _read_verdicts(hop.url, fetcher)
    return HopPreview(
        url=hop.url,
        address=hop.address,
        http_status=hop.status,
        addresses=addresses,
        robots_txt=robots,
        connection_reused=hop.reused,
        seconds={phase: None if seconds is None else round(seconds, 6) for phase, seconds in phases.items()},
    )


def _read_verdicts(url: str, fetcher: Fetcher) -> tuple[tuple[dict[str, str], ...], str]:
    """Return the guard's verdicts and the result of robots.txt, from the caches that the fetch has filled."""
    policy, robots = fetcher.policy, "not requested: images.fetch.robots_txt is off"
    verdicts: list[tuple[str, str]] = []
    try:
        target = parse_target(url)
        verdicts = fetcher.guard.verdicts(target, policy.connect_timeout_s)
        if policy.robots_txt:
            clock = Clock.start(policy.deadline_s, policy.connect_timeout_s, policy.host_wait_s)
            rules = fetcher.robots.rules(target, clock)
            robots = rules.refusal(target.path, policy.opt_out_usages) or "allowed"
    except Rejection as rejection:
        robots = f"not requested ({rejection})" if not verdicts else str(rejection)
    return tuple({"address": address, "verdict": verdict} for address, verdict in verdicts), robots
