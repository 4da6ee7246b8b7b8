"""The reasons for which a retry fetches failed rows of complete shards again."""

from collections.abc import Sequence
from typing import Any

from laion_assets.errors import SettingError
from laion_assets.reasons import Reason

FAILED = "failed"
RETRYABLE = "retryable"
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
RETRY_HELP = (
    "Fetch only the failed rows of complete shards again. Existing images stay unchanged, byte for byte. "
    "failed: all failures except permanent ones (404, 410, 451, invalid or blocked URLs). retryable: only likely "
    "transient failures (DNS, connection, deadline, 429, 5xx, local failures). Or reasons by name, permanent ones "
    "included: dns_failure,http_5xx. Rows with an opt-out are never fetched again."
)


def retry_reasons(requested: str | Sequence[str]) -> tuple[Reason, ...]:
    """Return the sorted reasons for `failed`, `retryable`, or reasons by name (a list, or separated by commas).

    An empty request returns no reasons. Raises SettingError for an unknown name and for an opt-out.
    """
    words = requested.split(",") if isinstance(requested, str) else requested
    found: set[Reason] = set()
    for word in filter(None, (str(each).strip() for each in words)):
        if word == FAILED:
            found |= set(Reason) - {Reason.SUCCESS} - OPT_OUTS - PERMANENT
        elif word == RETRYABLE:
            found |= {
                reason
                for reason in Reason
                if reason.is_retryable or reason.is_local_failure or reason is Reason.DEADLINE
            }
        else:
            found.add(_read_reason(word))
    return tuple(sorted(found - OPT_OUTS))


def _read_reason(word: str) -> Reason:
    if word not in Reason._value2member_map_ or word == Reason.SUCCESS:
        names = ", ".join(sorted(set(Reason) - {Reason.SUCCESS} - OPT_OUTS))
        raise SettingError(f"retry: unknown reason {word!r}. Use {FAILED}, {RETRYABLE}, or some of: {names}.")
    if word in OPT_OUTS:
        raise SettingError(
            f"retry: rows with {word} are never fetched again: the owner of the image opted out. Remove it."
        )
    return Reason(word)


def parse_run_config(value: Any) -> tuple[str, ...]:
    """Return the reasons for the value of `retry` in a run's config, a word or a list of words. Raises SettingError."""
    if not (isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, str) for each in value))):
        raise SettingError(f"retry is {value!r}. Use {FAILED}, {RETRYABLE}, or a list of reasons.")
    return tuple(reason.value for reason in retry_reasons(value))
