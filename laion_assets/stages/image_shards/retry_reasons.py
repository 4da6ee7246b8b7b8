"""Which failed rows of finished shards a retry fetches again."""

from collections.abc import Sequence
from typing import Any

from laion_assets.errors import SettingError
from laion_assets.reasons import Reason

FAILED = "failed"
RETRYABLE = "retryable"
CONSENT = frozenset({Reason.OPTED_OUT})
"""Refusals by the owner of the picture: never asked again."""
SETTLED = frozenset(
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
"""Gone for good, or refused by our own guard: fetched again only when they are named."""
RETRY_HELP = (
    "Fetch failed rows of finished shards again, and only these; pictures that are there stay byte for byte. "
    "failed: every failure but the settled ones (404, 410, 451, refused by our guard). retryable: only what may well "
    "pass (DNS, connection, deadline, 429, 5xx, own faults). Or reasons by name: dns_failure,http_5xx; settled ones "
    "must be named. Rows whose owner opted out are never fetched again."
)


def retry_reasons(asked: str | Sequence[str]) -> tuple[Reason, ...]:
    """The reasons that `failed`, `retryable`, or reasons by name (a list, or separated by commas) stand for, sorted.

    Nothing asked gives none. Raises SettingError for a name that is none, and for a refusal by the picture's owner.
    """
    words = asked.split(",") if isinstance(asked, str) else asked
    found: set[Reason] = set()
    for word in filter(None, (str(each).strip() for each in words)):
        if word == FAILED:
            found |= set(Reason) - {Reason.SUCCESS} - CONSENT - SETTLED
        elif word == RETRYABLE:
            found |= {
                reason
                for reason in Reason
                if reason.is_retryable or reason.is_local_failure or reason is Reason.DEADLINE
            }
        else:
            found.add(_named(word))
    return tuple(sorted(found - CONSENT))


def _named(word: str) -> Reason:
    if word not in Reason._value2member_map_ or word == Reason.SUCCESS:
        names = ", ".join(sorted(set(Reason) - {Reason.SUCCESS} - CONSENT))
        raise SettingError(f"retry: {word!r} is no reason. Use {FAILED}, {RETRYABLE}, or some of: {names}.")
    if word in CONSENT:
        raise SettingError(f"retry: {word} is a refusal by the picture's owner, which is never asked again.")
    return Reason(word)


def asked_in_config(value: Any) -> tuple[str, ...]:
    """`retry` as a run's config may give it, a word or a list of words, as reasons. Raises SettingError."""
    if not (isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, str) for each in value))):
        raise SettingError(f"retry is {value!r}: use {FAILED}, {RETRYABLE}, or a list of reasons.")
    return tuple(reason.value for reason in retry_reasons(value))
