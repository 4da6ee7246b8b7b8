"""The reasons for which a retry fetches failed rows of complete shards again."""

from collections.abc import Collection, Sequence
from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.settings.field import compute_digest
from laion_assets.errors import SettingError
from laion_assets.reasons import Reason
from laion_assets.store.manifest import Manifest

FAILED = "failed"
RETRYABLE = "retryable"
NEWLY_ALLOWED = "newly_allowed"
"""The rows that the address guard refused, in shards that were built with other allowed hosts, networks or ports."""
GUARD_DETAIL = "guard"
"""The detail of a shard's manifest with the digest of the guard's settings."""
OPT_OUTS = frozenset({Reason.OPTED_OUT})
"""Opt-outs by the owner of the image: never fetched again."""
PERMANENT = frozenset(
    {
        Reason.HTTP_404,
        Reason.HTTP_410,
        Reason.HTTP_451,
        Reason.INVALID_URL,
        Reason.UNSUPPORTED_SCHEME,
        Reason.BLOCKED_PORT,
        Reason.BLOCKED_ADDRESS,
    }
)
"""Permanent failures: fetched again only if the reason is given by name."""
REFUSED_BY_GUARD = frozenset({Reason.BLOCKED_ADDRESS, Reason.BLOCKED_PORT})
RETRY_HELP = (
    "Fetch only the failed rows of complete shards again. Existing images stay unchanged, byte for byte. "
    "failed: all failures except permanent ones (404, 410, 451, invalid or blocked URLs). retryable: only likely "
    "transient failures (DNS, connection, deadline, 429, 5xx, local failures). Both include newly_allowed: blocked "
    "URLs, if resolve, allow_networks, blocked_networks or the allowed ports changed since. Or reasons by name, "
    "permanent ones included: dns_failure,http_5xx. Rows with an opt-out are never fetched again."
)


def retry_reasons(requested: str | Sequence[str]) -> tuple[str, ...]:
    """Return the sorted reasons for `failed`, `retryable`, or reasons by name (a list, or separated by commas).

    `newly_allowed` stays a word, because `reasons_of_shard` decides for each shard what it means. An empty request
    returns no reasons. Raises SettingError for an unknown name and for an opt-out.
    """
    words = requested.split(",") if isinstance(requested, str) else requested
    found: set[str] = set()
    for word in filter(None, (str(each).strip() for each in words)):
        if word == FAILED:
            found |= {NEWLY_ALLOWED} | set(Reason) - {Reason.SUCCESS} - OPT_OUTS - PERMANENT
        elif word == RETRYABLE:
            found |= {NEWLY_ALLOWED} | {
                reason
                for reason in Reason
                if reason.is_retryable or reason.is_local_failure or reason is Reason.DEADLINE
            }
        elif word == NEWLY_ALLOWED:
            found.add(word)
        else:
            found.add(_read_reason(word))
    return tuple(sorted(found - OPT_OUTS))


def _read_reason(word: str) -> Reason:
    if word not in Reason._value2member_map_ or word == Reason.SUCCESS:
        names = ", ".join(sorted(set(Reason) - {Reason.SUCCESS} - OPT_OUTS))
        raise SettingError(
            f"retry: unknown reason {word!r}. Use {FAILED}, {RETRYABLE}, or some of: {names}, {NEWLY_ALLOWED}."
        )
    if word in OPT_OUTS:
        raise SettingError(
            f"retry: rows with {word} are never fetched again: the owner of the image opted out. Remove it."
        )
    return Reason(word)


def parse_run_config(value: Any) -> tuple[str, ...]:
    """Return the reasons for the value of `retry` in a run's config, a word or a list of words. Raises SettingError."""
    if not (isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, str) for each in value))):
        raise SettingError(f"retry is {value!r}. Use {FAILED}, {RETRYABLE}, or a list of reasons.")
    return tuple(map(str, retry_reasons(value)))


def reasons_of_shard(dataset: Dataset, manifest: Manifest, retry: Collection[str]) -> tuple[str, ...]:
    """Return those of the reasons to retry for which a shard has failed rows.

    `newly_allowed` means the reasons of the guard if the shard was built with other settings of the guard. An older
    shard has no record of them. No network was allowed then.
    """
    chosen = set(retry)
    if NEWLY_ALLOWED in chosen:
        recorded = manifest.details.get(GUARD_DETAIL)
        changed = recorded != guard_digest(dataset) if recorded else bool(dataset.allow_networks)
        chosen |= REFUSED_BY_GUARD if changed else set()
    return tuple(sorted(str(reason) for reason in chosen if manifest.counts.reasons.get(reason)))


def guard_digest(dataset: Dataset) -> str:
    """Return the digest of the settings that decide which addresses and ports may be used.

    The hosts of the embedded site are left out: they are known only while it runs.
    """
    hosts = [] if dataset.uses_sample_site else sorted(dataset.resolve)
    networks = sorted(dataset.allow_networks), sorted(dataset.blocked_networks)
    return compute_digest([hosts, *networks, sorted(dataset.images.fetch.allowed_ports)])
