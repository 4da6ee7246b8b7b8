"""Dry run of one URL: how the fetcher handles it, without writing anything."""

from dataclasses import dataclass, replace

from laion_assets.dataset.dataset import Dataset
from laion_assets.http.clock import Clock
from laion_assets.http.fetch import Fetched, Fetcher
from laion_assets.http.hop import Hop
from laion_assets.http.urls.target import parse_target
from laion_assets.reasons import Reason, Rejection
from laion_assets.stages.image_shards.settings import ImageSettings

CONSENT_HEADERS = ("x-robots-tag", "tdm-reservation", "tdm-policy", "content-usage")


@dataclass(frozen=True)
class AddressVerdict:
    """An IP address of a host, and whether the guard allows it."""

    address: str
    verdict: str


@dataclass(frozen=True)
class HopSeconds:
    """Seconds of a request by phase; None for a phase that did not happen. `waited` is the time in the host's queue."""

    dns: float | None = None
    waited: float | None = None
    connect: float | None = None
    tls: float | None = None
    first_byte: float | None = None
    body: float | None = None


@dataclass(frozen=True)
class PreviewHop:
    """One request: the URL or a redirect of it.

    `address` is the endpoint of the connection, `addresses` are those of the host with the guard's verdicts.
    `robots_txt` is the verdict of the site's robots.txt.
    """

    url: str
    address: str | None
    http_status: int | None
    addresses: tuple[AddressVerdict, ...]
    robots_txt: str
    connection_reused: bool
    seconds: HopSeconds


@dataclass(frozen=True)
class Preview:
    """The outcome of one URL. Sizes are in pixels and bytes, None where no image was decoded.

    `status` is img2dataset's (`success`, `failed_to_download` or `failed_to_resize`), `reason` the value of a `Reason`.
    `consent` holds the opt-out headers of the last response, such as `x-robots-tag: noai`.
    """

    url: str
    status: str
    reason: str
    detail: str
    final_url: str
    hops: tuple[PreviewHop, ...]
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


def preview_url(url: str, dataset: Dataset | None = None) -> Preview:
    """Fetch, check and resize the image at one URL, as for a shard. Nothing is written.

    With a dataset its image settings and `resolve` apply. Without, the strict defaults apply: only addresses that are
    globally reachable. A refused or failed URL is an outcome, not an error.
    """
    images = dataset.images if dataset is not None else ImageSettings()
    fetcher = Fetcher(dataset.fetch_policy if dataset is not None else images.fetch)
    try:
        fetched = fetcher.fetch(url)
        preview = _describe(fetched, fetcher)
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


def _describe(fetched: Fetched, fetcher: Fetcher) -> Preview:
    return Preview(
        url=fetched.url,
        status=fetched.reason.status,
        reason=fetched.reason.value,
        detail=fetched.detail,
        final_url=fetched.final_url,
        hops=tuple(_describe_hop(hop, fetcher) for hop in fetched.hops),
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


def _describe_hop(hop: Hop, fetcher: Fetcher) -> PreviewHop:
    phases = (hop.dns_s, hop.waited_s, hop.connect_s, hop.tls_s, hop.first_byte_s, hop.body_s)
    addresses, robots = _read_verdicts(hop.url, fetcher)
    return PreviewHop(
        url=hop.url,
        address=hop.address,
        http_status=hop.status,
        addresses=addresses,
        robots_txt=robots,
        connection_reused=hop.reused,
        seconds=HopSeconds(*(None if seconds is None else round(seconds, 6) for seconds in phases)),
    )


def _read_verdicts(url: str, fetcher: Fetcher) -> tuple[tuple[AddressVerdict, ...], str]:
    """Return the guard's verdicts and the verdict of robots.txt, from the caches of the fetcher."""
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
    return tuple(AddressVerdict(address, verdict) for address, verdict in verdicts), robots
