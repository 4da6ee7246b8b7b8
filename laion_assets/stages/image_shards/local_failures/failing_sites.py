"""Statistics that distinguish local failures from dead sites, over unrelated sites in the order of their requests.

A dead link is weak evidence, and so is a dead site with many rows. Many unrelated sites that fail one after the other
without a response in between are evidence of a local failure. Rows are sorted by a hash, so neighbouring rows are from
unrelated sites.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from laion_assets.reasons import Reason

FALSE_ALARM_NATS = 18.0
"""Evidence required for an outage, plus ln of the number of rows: about e^-18 false alarms per shard."""
RARE_ANSWERS = 0.1
"""Response rate in an outage, relative to the expected rate: caches and proxies still give a few responses."""
MAX_RISE = 0.2
"""Significant rise of the share of failing sites over the run's that counts as a partial local failure."""
_LEAST_EXPECTED, _MOST_EXPECTED, _MARGIN = 0.3, 0.98, 0.15
_SHARE_ODDS = math.log(1e9)
_ENOUGH_SITES = 30
_SECOND_LEVELS = frozenset(
    ("co", "com", "org", "net", "ac", "edu", "gov", "go", "ne", "or", "gob", "gouv", "ltd", "plc")
)


@dataclass(slots=True)
class RowOutcome:
    """The outcome of one row: its position in the shard, its site, and the times of its request, in seconds."""

    place: int
    site: str
    scheme: str
    reason: Reason
    started: float
    ended: float
    final_site: str = ""


@dataclass
class Outage:
    """Consecutive rows, in the order of their requests, with fewer responses than expected.

    `score` is the log likelihood ratio of an outage against the expected failures, in nats.
    """

    score: float = 0.0
    rows: list[RowOutcome] = field(default_factory=list)

    @property
    def failed(self) -> list[RowOutcome]:
        """The rows that failed."""
        return [row for row in self.rows if row.reason.may_be_local]

    @property
    def sites(self) -> int:
        """The number of unrelated sites that failed."""
        return len({row.site for row in self.failed})

    @property
    def reasons(self) -> Counter[str]:
        """The number of failed rows by reason."""
        return Counter(row.reason.value for row in self.failed)


def expected_share(measured: float | None, default: float) -> float:
    """Return the expected share of failing sites: the run's measured share plus a margin, or the setting."""
    share = default if measured is None else max(measured + _MARGIN, _LEAST_EXPECTED)
    return min(max(share, 0.01), _MOST_EXPECTED)


def outages(rows: Iterable[RowOutcome], expected: float) -> list[Outage]:
    """Find the excursions of Page's CUSUM test over the rows in the order of their requests, each up to its peak.

    In an excursion, failures count once per site and responses every time. Rows without evidence are ignored.
    """
    failure, response = math.log((1 - RARE_ANSWERS * (1 - expected)) / expected), math.log(RARE_ANSWERS)
    ordered = sorted(rows, key=lambda row: (row.started, row.place))
    found: list[Outage] = []
    score = best = 0.0
    start, peak, sites = -1, -1, set[str]()
    for index, row in enumerate(ordered):
        if row.reason.may_be_local:
            start = index if start < 0 else start
            score += 0.0 if row.site in sites else failure
            sites.add(row.site)
            if score >= best:
                best, peak = score, index
        elif row.reason.shows_site and start >= 0:
            score += response
            if score <= 0:
                found.append(Outage(best, ordered[start : peak + 1]))
                score = best = 0.0
                start, sites = -1, set()
    return found if start < 0 else [*found, Outage(best, ordered[start : peak + 1])]


def threshold(rows: int) -> float:
    """Return the score, in nats, from which an outage among this many rows is significant."""
    return FALSE_ALARM_NATS + math.log(max(rows, 1))


def failing_share(rows: Iterable[RowOutcome]) -> tuple[float, int]:
    """Return the mean over sites of their share of failed rows, and the number of sites."""
    failed, total = Counter[str](), Counter[str]()
    for row in rows:
        if row.reason.may_be_local or row.reason.shows_site:
            total[row.site] += 1
            failed[row.site] += row.reason.may_be_local
    if not total:
        return 0.0, 0
    return sum(failed[site] / count for site, count in total.items()) / len(total), len(total)


def has_risen(share: float, sites: int, measured: float | None) -> bool:
    """Whether the share of failing sites is over the run's by MAX_RISE, with odds of 1e9 by Hoeffding's bound."""
    if measured is None or not sites:
        return False
    return share - math.sqrt(_SHARE_ODDS / (2 * sites)) > measured + MAX_RISE


def find_site(host: str) -> str:
    """Return the registrable domain of a host: its last two labels, three below `co.uk` and similar; or its address."""
    host = host.removesuffix(".").lower()
    labels = host.split(".")
    if ":" in host or labels[-1][:1].isdigit():
        return host
    wide = len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in _SECOND_LEVELS
    return ".".join(labels[-3 if wide else -2 :])


def mean_share(shares: Sequence[tuple[float, int]]) -> float | None:
    """Return the mean of the shares of several shards, weighted by their sites; None if there are too few sites."""
    sites = sum(count for _, count in shares)
    return sum(share * count for share, count in shares) / sites if sites >= _ENOUGH_SITES else None
