"""Describe a local failure in one sentence: what happened, and what to check."""

from collections import Counter
from collections.abc import Sequence

from laion_assets.reasons import Reason
from laion_assets.stages.image_shards.local_failures.failing_sites import RowOutcome

_PORTAL_SHARE = 0.5
_CHECKS = (
    ({Reason.DNS_FAILURE}, "the resolver (DNS) of this machine"),
    ({Reason.TLS_FAILURE}, "the CA certificates (SSL_CERT_FILE) and the clock of this machine"),
    (
        {Reason.HTTP_403, Reason.HTTP_429, Reason.HTTP_4XX, Reason.HOST_BUSY},
        "whether sites block this machine's address, or a proxy answers in their place",
    ),
    ({Reason.HTTP_5XX, Reason.HTTP_OTHER}, "whether a proxy answers in the sites' place"),
    (
        {
            Reason.NOT_AN_IMAGE,
            Reason.BAD_REDIRECT,
            Reason.REDIRECT_LOOP,
            Reason.TOO_MANY_REDIRECTS,
            Reason.BLOCKED_ADDRESS,
            Reason.NO_CONTENT,
        },
        "whether a captive portal or a proxy answers in the sites' place",
    ),
    (
        {Reason.LOCAL_FAILURE},
        "the CPU load, memory and open files of this machine (lower images.threads or images.processes)",
    ),
    ({Reason.DECODER_CRASH, Reason.DECODE_TIMEOUT, Reason.INTERNAL}, "the memory and CPU load of this machine"),
)
_NETWORK = "the network, firewall and proxy of this machine"


def describe(what: str, rows: Sequence[RowOutcome]) -> str:
    """Return `what (connect_failure 12, dns_failure 3): check the network ...` for these failed rows."""
    failed = [row for row in rows if row.reason.may_be_local]
    reasons = Counter(row.reason for row in failed).most_common(3)
    named = ", ".join(f"{reason.value} {count:,}" for reason, count in reasons)
    return f"{what} ({named}{_describe_portal(failed)}): check {_choose_check(reasons[0][0] if reasons else None)}"


def _describe_portal(failed: Sequence[RowOutcome]) -> str:
    """Return the site to which most rows were redirected, if there is one."""
    finals = Counter(row.final_site for row in failed if row.final_site and row.final_site != row.site)
    if not finals:
        return ""
    site, count = finals.most_common(1)[0]
    return f"; {count:,} were redirected to {site}" if count > _PORTAL_SHARE * len(failed) else ""


def _choose_check(reason: Reason | None) -> str:
    return next((advice for reasons, advice in _CHECKS if reason in reasons), _NETWORK)
