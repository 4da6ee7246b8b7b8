"""What the rows of a shard say of the web and of ourselves: statistics over unrelated sites, in the order of asking.

A dead link says little, and a dead site with many rows says no more. Many unrelated sites in a row without one that
answers say that the fault is ours. Rows are in the order of a hash, so that neighbours come from unrelated sites.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from laion_assets.reasons import Reason

FALSE_ALARM_NATS = 18.0
"""ln of the odds that an honest shard must overcome to look like an outage, beside ln of its number of rows: e^-18."""
RARE_ANSWERS = 0.1
"""In an outage sites answer at most so many times as often as expected: a few answers come from caches and proxies."""
MAX_RISE = 0.2
"""A shard whose sites fail more often than the run's by more than this, and surely so, has a partial fault."""
_LEAST_EXPECTED, _MOST_EXPECTED, _MARGIN = 0.3, 0.98, 0.15
_SHARE_ODDS = math.log(1e9)
_ENOUGH_SITES = 30
_SECOND_LEVELS = frozenset(
    ("co", "com", "org", "net", "ac", "edu", "gov", "go", "ne", "or", "gob", "gouv", "ltd", "plc")
)


@dataclass(slots=True)
class RowOutcome:
    """What became of one row: its site, the place it has in the shard, and when it was asked, in seconds."""

    place: int
    site: str
    scheme: str
    reason: Reason
    started: float
    ended: float
    final_site: str = ""


@dataclass
class Outage:
    """Rows in the order of asking, at unrelated sites, among which no more answered than a fault lets through.

    `score` is the log likelihood ratio of an outage against the expected failures, in nats.
    """

    score: float = 0.0
    rows: list[RowOutcome] = field(default_factory=list)

    @property
    def failed(self) -> list[RowOutcome]:
        """Those that failed."""
        return [row for row in self.rows if row.reason.may_be_local]

    @property
    def sites(self) -> int:
        """How many unrelated sites failed."""
        return len({row.site for row in self.failed})

    @property
    def reasons(self) -> Counter[str]:
        """Failed rows by reason."""
        return Counter(row.reason.value for row in self.failed)


def expected_share(measured: float | None, default: float) -> float:
    """The share of sites whose failure is no surprise: the run's own with a margin, or the setting's."""
    share = default if measured is None else max(measured + _MARGIN, _LEAST_EXPECTED)
    return min(max(share, 0.01), _MOST_EXPECTED)


def outages(rows: Iterable[RowOutcome], expected: float) -> list[Outage]:
    """The excursions of Page's test (CUSUM) over the rows in the order of asking; each from its start to its peak.

    A failure counts once a site in each excursion, an answer each time. Rows that say nothing are left out.
    """
    failed, answered = math.log((1 - RARE_ANSWERS * (1 - expected)) / expected), math.log(RARE_ANSWERS)
    ordered = sorted(rows, key=lambda row: (row.started, row.place))
    found: list[Outage] = []
    score = best = 0.0
    start, peak, sites = -1, -1, set[str]()
    for index, row in enumerate(ordered):
        if row.reason.may_be_local:
            start = index if start < 0 else start
            score += 0.0 if row.site in sites else failed
            sites.add(row.site)
            if score >= best:
                best, peak = score, index
        elif row.reason.shows_site and start >= 0:
            score += answered
            if score <= 0:
                found.append(Outage(best, ordered[start : peak + 1]))
                score = best = 0.0
                start, sites = -1, set()
    return found if start < 0 else [*found, Outage(best, ordered[start : peak + 1])]


def threshold(rows: int) -> float:
    """The score from which an outage among so many rows is taken for one, in nats."""
    return FALSE_ALARM_NATS + math.log(max(rows, 1))


def failing_share(rows: Iterable[RowOutcome]) -> tuple[float, int]:
    """The mean over sites of the share of their rows that failed, and the number of sites."""
    failed, asked = Counter[str](), Counter[str]()
    for row in rows:
        if row.reason.may_be_local or row.reason.shows_site:
            asked[row.site] += 1
            failed[row.site] += row.reason.may_be_local
    if not asked:
        return 0.0, 0
    return sum(failed[site] / count for site, count in asked.items()) / len(asked), len(asked)


def has_risen(share: float, sites: int, measured: float | None) -> bool:
    """Whether so many sites fail surely (odds of 1e9, Hoeffding's bound) more often than the run's, by MAX_RISE."""
    if measured is None or not sites:
        return False
    return share - math.sqrt(_SHARE_ODDS / (2 * sites)) > measured + MAX_RISE


def site_of(host: str) -> str:
    """The registrable domain of a host, by its last two labels, three below `co.uk` and the like; an address itself."""
    host = host.removesuffix(".").lower()
    labels = host.split(".")
    if ":" in host or labels[-1][:1].isdigit():
        return host
    wide = len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in _SECOND_LEVELS
    return ".".join(labels[-3 if wide else -2 :])


def mean_share(shares: Sequence[tuple[float, int]]) -> float | None:
    """The mean of the shares of several shards, weighted by their sites; None where there are too few to say."""
    sites = sum(count for _, count in shares)
    return sum(share * count for share, count in shares) / sites if sites >= _ENOUGH_SITES else None
