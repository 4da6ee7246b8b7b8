"""What would become of one URL: the whole decision, without writing anything."""

from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.http.clock import Clock
from laion_assets.http.fetch import Fetched, Fetcher
from laion_assets.http.hop import Hop
from laion_assets.http.policy import FetchPolicy
from laion_assets.http.urls.target import parse_target
from laion_assets.reasons import Reason, Rejection
from laion_assets.stages.image_shards.settings import ImageSettings

CONSENT_HEADERS = ("x-robots-tag", "tdm-reservation", "tdm-policy", "content-usage")


def decide(url: str, dataset: Dataset | None = None) -> dict[str, Any]:
    """Run one URL through exactly the path of a shard's rows, and say what became of it.

    With a dataset: by its image settings and `resolve`. Without: by the strict defaults, globally reachable addresses
    only. Sizes in pixels and bytes. `status` is img2dataset's, `reason` a `Reason`. Each hop has the guard's verdict on
    every address of its host, what its site's robots.txt says (where it is asked), whether a kept connection served it,
    and its seconds by phase, null for a phase that did not happen. `consent` holds the last answer's own headers of
    consent.
    """
    images = dataset.images if dataset is not None else ImageSettings()
    named = (dataset.resolve, dataset.blocked_networks) if dataset is not None else ({}, ())
    fetcher = Fetcher(FetchPolicy.of(images, *named))
    try:
        fetched = fetcher.fetch(url)
        decision = _of_fetched(fetched, fetcher)
    finally:
        fetcher.close()
    if fetched.reason is not Reason.SUCCESS:
        return decision
    from laion_assets.stages.image_shards.decoding.decoder_process import reencode

    _, width, height, original_width, original_height, error = reencode(images, fetched.body)
    decision |= {"original_width": original_width, "original_height": original_height, "width": width, "height": height}
    if error is not None:
        reason = Reason.of_message("failed_to_resize", error)
        decision |= {"status": reason.status, "reason": reason.value, "detail": error.partition(": ")[2]}
    return decision


def _of_fetched(fetched: Fetched, fetcher: Fetcher) -> dict[str, Any]:
    return {
        "url": fetched.url,
        "status": fetched.reason.status,
        "reason": fetched.reason.value,
        "detail": fetched.detail,
        "final_url": fetched.final_url,
        "hops": [_of_hop(hop, fetcher) for hop in fetched.hops],
        "consent": [f"{name}: {value}" for name, value in fetched.headers if name in CONSENT_HEADERS],
        "http_status": fetched.status,
        "bytes": len(fetched.body),
        "wire_bytes": fetched.wire_bytes,
        "original_width": None,
        "original_height": None,
        "width": None,
        "height": None,
        "seconds": fetched.seconds,
        "attempts": fetched.attempts,
    }


def _of_hop(hop: Hop, fetcher: Fetcher) -> dict[str, Any]:
    phases = {
        "dns": hop.dns_s,
        "waited": hop.waited_s,
        "connect": hop.connect_s,
        "tls": hop.tls_s,
        "first_byte": hop.first_byte_s,
        "body": hop.body_s,
    }
    addresses, robots = _asked_before(hop.url, fetcher)
    return {
        "url": hop.url,
        "address": hop.address,
        "http_status": hop.status,
        "addresses": addresses,
        "robots_txt": robots,
        "connection_reused": hop.reused,
        "seconds": {phase: None if seconds is None else round(seconds, 6) for phase, seconds in phases.items()},
    }


def _asked_before(url: str, fetcher: Fetcher) -> tuple[list[dict[str, str]], str]:
    """The guard's verdicts and that of robots.txt, from what the fetch left in the caches."""
    policy, robots = fetcher.policy, "not asked: images.robots_txt is off"
    verdicts: list[tuple[str, str]] = []
    try:
        target = parse_target(url)
        verdicts = fetcher.guard.verdicts(target, policy.connect_timeout_s)
        if policy.robots_txt:
            clock = Clock.start(policy.deadline_s, policy.connect_timeout_s, policy.host_wait_s)
            rules = fetcher.robots.rules(target, clock)
            robots = rules.refusal(target.path, policy.opt_out_usages) or "allowed"
    except Rejection as rejection:
        robots = f"not asked ({rejection})" if not verdicts else str(rejection)
    return [{"address": address, "verdict": verdict} for address, verdict in verdicts], robots
