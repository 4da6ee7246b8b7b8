"""Watches the rows of a shard as they come, and decides whether their failures are ours: LocalFailureError if so.

The evidence, in the order of its weight:

1. rows that failed as `local_failure` (memory, open files, a machine too busy) twice
2. URLs that worked before, or the setting's probe URLs, of which none answers now; asked where the last rows failed
3. an outage among the rows in the order of asking (`failing_sites.outages`), whether it lasts or not
4. a share of failing sites far above that of the run's other shards

Where no URL is known to work, URLs of other shards are asked, so that a shard of four rows does not decide by itself.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from laion_assets.errors import LocalFailureError
from laion_assets.http.fetch import Fetched
from laion_assets.http.urls.addresses import refusal
from laion_assets.http.urls.target import parse_target
from laion_assets.reasons import Reason, Rejection
from laion_assets.stages.image_shards.local_failures.failing_sites import (
    Outage,
    RowOutcome,
    expected_share,
    failing_share,
    has_risen,
    outages,
    site_of,
    threshold,
)
from laion_assets.stages.image_shards.local_failures.message import describe
from laion_assets.stages.image_shards.local_failures.network_check import Ask
from laion_assets.stages.image_shards.local_failures.network_memory import NetworkMemory

KNOWN_GOOD = 5
"""URLs known to work that are asked at once, each of another site."""
OTHER_URLS, _OTHERS_AT_ONCE = 60, 12
"""URLs of other shards that are asked where none is known to work, until one answers."""
SUSPECT_NATS = 5.0
"""An outage of this score is too little to decide by: its rows are fetched a second time."""
_MANY_ROWS = 20
"""Fewer rows without any answer are committed where nothing else speaks of a local failure."""
_FIRST_CHECK_SITES, _FIRST_CHECK_ROWS = 24, 256
"""Failures in a row, in the order of their ends, before the network is checked while the shard is fetched."""


@lru_cache(maxsize=1_024)
def _is_public(address: str) -> bool:
    return refusal(ip_address(address)) is None


@dataclass(frozen=True)
class Evidence:
    """What a watch asks beside the rows: settings, what is known of the network, and how to learn more."""

    memory: NetworkMemory
    ask: Ask
    other_urls: Callable[[], Iterable[str]] = lambda: ()
    probe_urls: tuple[str, ...] = ()
    expected_failures: float = 0.5
    refuses: bool = True


class ShardWatch:
    """Takes each row once it ended. `again` are the places to fetch a second time, `finish` decides.

    `judges_shares` is False for a retry, whose rows had failed before: of them only the network's state is judged.
    """

    def __init__(self, evidence: Evidence, judges_shares: bool = True) -> None:
        self._evidence = evidence
        self._judges_shares = judges_shares
        self._rows: dict[int, RowOutcome] = {}
        self._sites: dict[str, str] = {}
        self._by_address: dict[str, str] = {}
        self._failing: dict[str, tuple[set[str], int]] = {}
        self._next_check: dict[str, int] = {}

    def add(self, place: int, fetched: Fetched, reason: Reason) -> None:
        """Count a row; one that was counted before is replaced. Raises LocalFailureError while rows are to come."""
        row = self._outcome(place, fetched, reason)
        if row is None:
            return
        before = self._rows.get(place)
        if before is not None:
            row.started = before.started  # in its first place in the order of asking
        self._rows[place] = row
        if reason is Reason.SUCCESS:
            self._evidence.memory.worked(row.scheme, row.site, fetched.url)
        if reason.shows_site:
            self._failing.pop(row.scheme, None)
            self._next_check.pop(row.scheme, None)
        elif self._evidence.refuses:
            self._count_failure(row)

    def again(self) -> list[int]:
        """Places of rows whose failure may be ours: fetched a second time. Raises LocalFailureError."""
        if not self._evidence.refuses:
            return []
        self._check_ends()
        suspect = {row.place for row in self._rows.values() if row.reason is Reason.LOCAL_FAILURE}
        if self._judges_shares:
            for outage in self._outages():
                if outage.score >= SUSPECT_NATS:
                    suspect.update(row.place for row in outage.failed)
        return sorted(suspect)

    def finish(self) -> tuple[float, int]:
        """The share of failing sites and the number of sites. Raises LocalFailureError."""
        share, sites = failing_share(self._rows.values())
        if not self._evidence.refuses:
            return share, sites
        busy = [row for row in self._rows.values() if row.reason is Reason.LOCAL_FAILURE]
        if busy:
            raise LocalFailureError(
                describe(f"{len(busy)} of {len(self._rows)} rows failed twice on this machine", busy)
            )
        works = self._check_ends()
        if self._judges_shares:
            self._check_outages()
            self._check_share(share, sites)
            self._check_any_answer(works)
        return share, sites

    def _outcome(self, place: int, fetched: Fetched, reason: Reason) -> RowOutcome | None:
        """None for a row that says nothing of the network."""
        try:
            target = parse_target(fetched.url)
        except Rejection:
            return None
        if reason is Reason.BLOCKED_ADDRESS and len(fetched.hops) == 1 and _is_address(target.host):
            return None
        address = fetched.hops[-1].address if len(fetched.hops) == 1 else None
        site = self._site(site_of(target.host), address)
        final = site_of(urlsplit(fetched.final_url).hostname or "") if len(fetched.hops) > 1 else ""
        return RowOutcome(place, site, target.scheme, reason, fetched.started, fetched.started + fetched.seconds, final)

    def _site(self, site: str, endpoint: str | None) -> str:
        """One name for all sites of one public address: a server that is down takes them all along."""
        if site not in self._sites and endpoint is not None:
            address = endpoint.rpartition(":")[0].strip("[]")
            if _is_public(address):  # the operator's own, by `resolve`, may stand for many
                self._sites[site] = self._by_address.setdefault(address, site)
        return self._sites.get(site, site)

    def _count_failure(self, row: RowOutcome) -> None:
        """Check the network once many failed in a row, so that a shard without hope ends early."""
        sites, rows = self._failing.get(row.scheme, (set(), 0))
        sites.add(row.site)
        self._failing[row.scheme] = sites, rows + 1
        level = self._next_check.get(row.scheme, 1)
        if len(sites) < level * _FIRST_CHECK_SITES and rows + 1 < level * _FIRST_CHECK_ROWS:
            return
        self._next_check[row.scheme] = 2 * level
        self._check_network(row.scheme)
        if self._judges_shares and not any(other.reason.shows_site for other in self._of(row.scheme)):
            self._check_outages()

    def _check_ends(self) -> bool:
        """Check the network for each scheme whose last rows failed: none that was asked later has answered.

        Whether any URL that was asked for it answered.
        """
        works = False
        for scheme in sorted({row.scheme for row in self._rows.values()}):
            rows = self._of(scheme)
            failed = [row.ended for row in rows if row.reason.may_be_local]
            answered = [row.started for row in rows if row.reason.shows_site]
            if failed and max(failed) >= max(answered, default=0.0):
                works = self._check_network(scheme) or works
        return works

    def _check_network(self, scheme: str) -> bool:
        """Whether a URL answers that worked before, or one of another shard. Raises LocalFailureError."""
        evidence = self._evidence
        probes = [url for url in evidence.probe_urls if url.startswith(f"{scheme}:")]
        known = list(dict.fromkeys([*probes, *evidence.memory.known_good(scheme, KNOWN_GOOD)]))
        if known:
            found = evidence.ask(known)
            if found and not any(reason.shows_site for reason in found.values()):
                seen = Outage(0.0, self._last_failed(scheme))
                raise LocalFailureError(
                    describe(
                        f"{seen.sites} sites failed, and none of {len(found)} URLs that worked before answers now",
                        seen.rows,
                    )
                )
            if found:
                return True
        return self._ask_others(scheme)

    def _ask_others(self, scheme: str) -> bool:
        """Where nothing is known to work: URLs of other shards, as many unrelated sites as decide."""
        others = [url for url in self._evidence.other_urls() if url.startswith(f"{scheme}:")][:OTHER_URLS]
        if not others:
            return False
        rows = self._last_failed(scheme)
        for first in range(0, len(others), _OTHERS_AT_ONCE):
            for url, reason in self._evidence.ask(others[first : first + _OTHERS_AT_ONCE]).items():
                rows.append(RowOutcome(len(rows), _site_of_url(url), scheme, reason, float("inf"), float("inf")))
                if reason is Reason.SUCCESS:
                    self._evidence.memory.worked(scheme, rows[-1].site, url)
                if reason.shows_site:
                    return True
        self._refuse_outage(outages(rows, self._expected), len(rows), " of this and other shards")
        return False

    def _check_outages(self) -> None:
        for scheme in (None, *sorted({row.scheme for row in self._rows.values()})):
            rows = self._of(scheme)
            self._refuse_outage(outages(rows, self._expected), len(rows))

    def _refuse_outage(self, found: Sequence[Outage], rows: int, where: str = "") -> None:
        worst = max(found, key=lambda outage: outage.score, default=Outage())
        if worst.score >= threshold(rows):
            raise LocalFailureError(
                describe(
                    f"{worst.sites} unrelated sites{where} failed one after the other{_answers(worst)}", worst.rows
                )
            )

    def _check_any_answer(self, works: bool) -> None:
        """Of one site alone nobody can tell whether it is dead; a shard without any answer is not committed then."""
        failed = [row for row in self._rows.values() if row.reason.may_be_local]
        if not works and len(failed) == len(self._rows) >= _MANY_ROWS:
            raise LocalFailureError(
                describe(f"none of {len(failed)} rows was answered, and no URL is known to work", failed)
                + ", or set images.refuse_local_failures to false if these sites are gone"
            )

    def _check_share(self, share: float, sites: int) -> None:
        measured = self._evidence.memory.share
        if measured is not None and has_risen(share, sites, measured):
            failed = [row for row in self._rows.values() if row.reason.may_be_local]
            raise LocalFailureError(
                describe(f"{share:.0%} of {sites} sites failed, and {measured:.0%} in this run's other shards", failed)
            )

    def _outages(self) -> list[Outage]:
        schemes = {row.scheme for row in self._rows.values()}
        return [found for scheme in (None, *schemes) for found in outages(self._of(scheme), self._expected)]

    def _of(self, scheme: str | None) -> list[RowOutcome]:
        return [row for row in self._rows.values() if scheme is None or row.scheme == scheme]

    def _last_failed(self, scheme: str) -> list[RowOutcome]:
        """The rows that failed after the last that answered, in the order of asking."""
        rows = self._of(scheme)
        answered = max((row.started for row in rows if row.reason.shows_site), default=float("-inf"))
        return [row for row in rows if row.reason.may_be_local and row.ended >= answered]

    @property
    def _expected(self) -> float:
        return expected_share(self._evidence.memory.share, self._evidence.expected_failures)


def _answers(outage: Outage) -> str:
    answers = len(outage.rows) - len(outage.failed)
    return f", and {answers} rows among them were answered" if answers else ""


def _is_address(host: str) -> bool:
    return ":" in host or host.rpartition(".")[2][:1].isdigit()


def _site_of_url(url: str) -> str:
    return site_of(urlsplit(url).hostname or url)
