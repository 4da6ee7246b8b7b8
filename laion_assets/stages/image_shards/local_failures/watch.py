"""Watch the outcomes of a shard's rows, and raise LocalFailureError if a local failure caused their failures.

The evidence, strongest first:

1. rows that failed twice as `local_failure` (memory, open files, a machine that is too busy)
2. no response from URLs that worked before or from the probe URLs of the settings; they are fetched if the last rows
   failed
3. an outage among the rows in the order of their requests (`failing_sites.outages`), whether or not it has ended
4. a share of failing sites far above that of the run's other shards

If no URL is known to work, URLs of other shards are fetched, because a shard of four rows is too little evidence.
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
    find_site,
    has_risen,
    outages,
    threshold,
)
from laion_assets.stages.image_shards.local_failures.message import describe
from laion_assets.stages.image_shards.local_failures.network_check import Probe
from laion_assets.stages.image_shards.local_failures.network_memory import NetworkMemory

WORKING_URLS = 5
"""Number of URLs known to work that are fetched in parallel, each of a different site."""
OTHER_URLS, _OTHERS_AT_ONCE = 60, 12
"""Number of URLs of other shards that are fetched, in all and in parallel, until one responds."""
SUSPECT_NATS = 5.0
"""Score of an outage whose rows are fetched a second time, because it is not significant yet."""
_MANY_ROWS = 20
"""Fewer rows without any response are committed if there is no other evidence of a local failure."""
_FIRST_CHECK_SITES, _FIRST_CHECK_ROWS = 24, 256
"""Consecutive failures, in the order of their ends, before the network is checked while the shard is fetched."""


@lru_cache(maxsize=1_024)
def _is_public(address: str) -> bool:
    return refusal(ip_address(address)) is None


@dataclass(frozen=True)
class Evidence:
    """The inputs of a watch besides the rows: settings, memory of the network, and ways to probe it."""

    memory: NetworkMemory
    probe: Probe
    other_urls: Callable[[], Iterable[str]] = lambda: ()
    probe_urls: tuple[str, ...] = ()
    expected_failures: float = 0.5
    enabled: bool = True


class ShardWatch:
    """Collects the outcomes of a shard's rows. `finish` raises LocalFailureError if they show a local failure.

    `checks_shares` is False for a retry: its rows had failed before, so only the state of the network is checked.
    """

    def __init__(self, evidence: Evidence, checks_shares: bool = True) -> None:
        self._evidence = evidence
        self._checks_shares = checks_shares
        self._rows: dict[int, RowOutcome] = {}
        self._sites: dict[str, str] = {}
        self._by_address: dict[str, str] = {}
        self._failing: dict[str, tuple[set[str], int]] = {}
        self._next_check: dict[str, int] = {}

    def add(self, place: int, fetched: Fetched, reason: Reason) -> None:
        """Add a row's outcome, or replace its earlier one. Raises LocalFailureError to end a hopeless shard early."""
        row = self._outcome(place, fetched, reason)
        if row is None:
            return
        before = self._rows.get(place)
        if before is not None:
            row.started = before.started  # keeps its position in the order of requests
        self._rows[place] = row
        if reason is Reason.SUCCESS:
            self._evidence.memory.add_working_url(row.scheme, row.site, fetched.url)
        if reason.shows_site:
            self._failing.pop(row.scheme, None)
            self._next_check.pop(row.scheme, None)
        elif self._evidence.enabled:
            self._count_failure(row)

    def rows_to_refetch(self) -> list[int]:
        """Return the positions of rows whose failure may be local, to fetch them again. Raises LocalFailureError."""
        if not self._evidence.enabled:
            return []
        self._check_last_rows()
        suspect = {row.place for row in self._rows.values() if row.reason is Reason.LOCAL_FAILURE}
        if self._checks_shares:
            for outage in self._outages():
                if outage.score >= SUSPECT_NATS:
                    suspect.update(row.place for row in outage.failed)
        return sorted(suspect)

    def finish(self) -> tuple[float, int]:
        """Return the share of failing sites and the number of sites. Raises LocalFailureError."""
        share, sites = failing_share(self._rows.values())
        if not self._evidence.enabled:
            return share, sites
        busy = [row for row in self._rows.values() if row.reason is Reason.LOCAL_FAILURE]
        if busy:
            raise LocalFailureError(
                describe(f"{len(busy)} of {len(self._rows)} rows failed twice on this machine", busy)
            )
        network_works = self._check_last_rows()
        if self._checks_shares:
            self._check_outages()
            self._check_share(share, sites)
            self._check_any_response(network_works)
        return share, sites

    def _outcome(self, place: int, fetched: Fetched, reason: Reason) -> RowOutcome | None:
        """Return the row's outcome, None if it is not evidence about the network."""
        try:
            target = parse_target(fetched.url)
        except Rejection:
            return None
        if reason is Reason.BLOCKED_ADDRESS and len(fetched.hops) == 1 and _is_address(target.host):
            return None
        address = fetched.hops[-1].address if len(fetched.hops) == 1 else None
        site = self._site(find_site(target.host), address)
        final = find_site(urlsplit(fetched.final_url).hostname or "") if len(fetched.hops) > 1 else ""
        return RowOutcome(place, site, target.scheme, reason, fetched.started, fetched.started + fetched.seconds, final)

    def _site(self, site: str, endpoint: str | None) -> str:
        """Return one name for all sites at a public address, because a server that is down affects all of them."""
        if site not in self._sites and endpoint is not None:
            address = endpoint.rpartition(":")[0].strip("[]")
            if _is_public(address):  # an address in `resolve` may serve many unrelated sites
                self._sites[site] = self._by_address.setdefault(address, site)
        return self._sites.get(site, site)

    def _count_failure(self, row: RowOutcome) -> None:
        """Check the network after many consecutive failures, to end a hopeless shard early."""
        sites, rows = self._failing.get(row.scheme, (set(), 0))
        sites.add(row.site)
        self._failing[row.scheme] = sites, rows + 1
        level = self._next_check.get(row.scheme, 1)
        if len(sites) < level * _FIRST_CHECK_SITES and rows + 1 < level * _FIRST_CHECK_ROWS:
            return
        self._next_check[row.scheme] = 2 * level
        self._check_network(row.scheme)
        if self._checks_shares and not any(other.reason.shows_site for other in self._of(row.scheme)):
            self._check_outages()

    def _check_last_rows(self) -> bool:
        """Check the network for each scheme whose last rows failed. Return whether a fetched URL has responded.

        A scheme's last rows failed if no row that was requested later has a response.
        """
        works = False
        for scheme in sorted({row.scheme for row in self._rows.values()}):
            rows = self._of(scheme)
            failed = [row.ended for row in rows if row.reason.may_be_local]
            responded = [row.started for row in rows if row.reason.shows_site]
            if failed and max(failed) >= max(responded, default=0.0):
                works = self._check_network(scheme) or works
        return works

    def _check_network(self, scheme: str) -> bool:
        """Return whether a URL responds that worked before, or one of another shard. Raises LocalFailureError."""
        evidence = self._evidence
        probes = [url for url in evidence.probe_urls if url.startswith(f"{scheme}:")]
        known = list(dict.fromkeys([*probes, *evidence.memory.working_urls(scheme, WORKING_URLS)]))
        if known:
            found = evidence.probe(known)
            if found and not any(reason.shows_site for reason in found.values()):
                outage = Outage(0.0, self._last_failed(scheme))
                raise LocalFailureError(
                    describe(
                        f"{outage.sites} sites failed, and none of {len(found)} URLs that worked before responds now",
                        outage.rows,
                    )
                )
            if found:
                return True
        return self._probe_others(scheme)

    def _probe_others(self, scheme: str) -> bool:
        """Fetch URLs of other shards until one responds or enough sites have failed. Return whether one responded."""
        others = [url for url in self._evidence.other_urls() if url.startswith(f"{scheme}:")][:OTHER_URLS]
        if not others:
            return False
        rows = self._last_failed(scheme)
        for first in range(0, len(others), _OTHERS_AT_ONCE):
            for url, reason in self._evidence.probe(others[first : first + _OTHERS_AT_ONCE]).items():
                rows.append(RowOutcome(len(rows), _site_of_url(url), scheme, reason, float("inf"), float("inf")))
                if reason is Reason.SUCCESS:
                    self._evidence.memory.add_working_url(scheme, rows[-1].site, url)
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
                    f"{worst.sites} unrelated sites{where} failed one after the other{_describe_responses(worst)}",
                    worst.rows,
                )
            )

    def _check_any_response(self, network_works: bool) -> None:
        """Refuse a shard without any response if no URL is known to work: its one site may or may not be dead."""
        failed = [row for row in self._rows.values() if row.reason.may_be_local]
        if not network_works and len(failed) == len(self._rows) >= _MANY_ROWS:
            raise LocalFailureError(
                describe(f"none of {len(failed)} rows got a response, and no URL is known to work", failed)
                + ", or set images.refuse_local_failures to false if these sites are gone"
            )

    def _check_share(self, share: float, sites: int) -> None:
        measured = self._evidence.memory.share
        if measured is not None and has_risen(share, sites, measured):
            failed = [row for row in self._rows.values() if row.reason.may_be_local]
            raise LocalFailureError(
                describe(f"{share:.0%} of {sites} sites failed, but {measured:.0%} in this run's other shards", failed)
            )

    def _outages(self) -> list[Outage]:
        schemes = {row.scheme for row in self._rows.values()}
        return [found for scheme in (None, *schemes) for found in outages(self._of(scheme), self._expected)]

    def _of(self, scheme: str | None) -> list[RowOutcome]:
        return [row for row in self._rows.values() if scheme is None or row.scheme == scheme]

    def _last_failed(self, scheme: str) -> list[RowOutcome]:
        """Return the rows that failed after the last response, in the order of their requests."""
        rows = self._of(scheme)
        responded = max((row.started for row in rows if row.reason.shows_site), default=float("-inf"))
        return [row for row in rows if row.reason.may_be_local and row.ended >= responded]

    @property
    def _expected(self) -> float:
        return expected_share(self._evidence.memory.share, self._evidence.expected_failures)


def _describe_responses(outage: Outage) -> str:
    responses = len(outage.rows) - len(outage.failed)
    return f", with only {responses} responses in between" if responses else ""


def _is_address(host: str) -> bool:
    return ":" in host or host.rpartition(".")[2][:1].isdigit()


def _site_of_url(url: str) -> str:
    return find_site(urlsplit(url).hostname or url)
