"""Error rates of the detection of local failures: good shards refused, and shards with a local failure committed.

    python bench/local_failures.py [--shards 1000] [--large 200] [--faulty 200]

The detection is the project's own (`ShardWatch`), on a simulated web: 40,000 sites, a share of them dead with the
failures of the real web, 20 large hosts with a tenth of the rows, dead pages on live sites, and timeouts that end late.
No network is used. Prints two tables and a JSON object as the last line. Ends with status 1 if a good shard is refused.
"""

import argparse
import functools
import heapq
import itertools
import json
import random
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from laion_assets.errors import LocalFailureError
from laion_assets.http.fetch import Fetched
from laion_assets.http.hop import Hop
from laion_assets.reasons import Reason
from laion_assets.stages.image_shards.local_failures.network_memory import NetworkMemory
from laion_assets.stages.image_shards.local_failures.watch import Evidence, ShardWatch

SIZES = (4, 250, 10_000)
SITES, LARGE_HOSTS = 40_000, 20
THREADS = 64
SHARDS_PER_PROCESS = 10
"""Shards after which a new worker process starts, with an empty network memory."""
DEAD_REASONS = (
    (Reason.DNS_FAILURE, 0.40, 0.1),
    (Reason.DEADLINE, 0.20, 5.0),
    (Reason.HTTP_403, 0.12, 0.2),
    (Reason.NOT_AN_IMAGE, 0.12, 0.3),
    (Reason.CONNECT_FAILURE, 0.06, 0.1),
    (Reason.HTTP_5XX, 0.06, 0.2),
    (Reason.TLS_FAILURE, 0.04, 0.1),
)
"""Reason, share of the dead sites, seconds until the failure."""
FAULT = {
    "refused": (Reason.CONNECT_FAILURE, 0.02),
    "connect timeouts": (Reason.DEADLINE, 5.0),
    "resets": (Reason.CONNECTION_RESET, 0.05),
    "TLS without CA": (Reason.TLS_FAILURE, 0.05),
    "503": (Reason.HTTP_5XX, 0.05),
    "403": (Reason.HTTP_403, 0.05),
    "429": (Reason.HTTP_429, 0.05),
    "captive portal": (Reason.NOT_AN_IMAGE, 0.05),
}


@dataclass(frozen=True)
class Web:
    """A simulated web. `dead` is the share of dead sites, `large` the share of rows at one dead host."""

    dead: float
    large: float = 0.0
    gone: float = 0.08
    seed: int = 0

    def url(self, rng: random.Random) -> str:
        """Return a row's URL: a tenth on large hosts, the others on small ones; 85 % with https."""
        if rng.random() < self.large:
            return f"https://dead-giant.example/{rng.getrandbits(40)}.jpg"
        host = rng.randrange(LARGE_HOSTS) if rng.random() < 0.1 else rng.randrange(SITES)
        scheme = "https" if host % 20 < 17 else "http"
        return f"{scheme}://img.site{host}.example/{rng.getrandbits(40)}.jpg"

    def respond(self, url: str, rng: random.Random) -> tuple[Reason, float]:
        """Return the outcome without a local failure, and its seconds. The site's name decides whether it is dead."""
        reason, seconds = _failure_of_site(url.split("/", 3)[2], self.dead, self.seed)
        if reason is not None:
            return reason, seconds * rng.uniform(0.8, 1.2)
        if rng.random() < self.gone:
            return Reason.HTTP_404, rng.uniform(0.05, 0.5)
        return Reason.SUCCESS, rng.uniform(0.05, 1.0)


@functools.lru_cache(maxsize=100_000)
def _failure_of_site(host: str, dead: float, seed: int) -> tuple[Reason | None, float]:
    """Return the failure of a dead site's rows and its seconds; None for a live site."""
    rng = random.Random(f"{seed} {host}")
    if host != "dead-giant.example" and rng.random() >= dead:
        return None, 0.0
    reasons, shares, seconds = zip(*DEAD_REASONS, strict=True)
    place = rng.choices(range(len(reasons)), shares)[0]
    return reasons[place], seconds[place]


@dataclass(frozen=True)
class Fault:
    """A local failure: rows `first` to `last` fail as `kind` with probability `share`; only https rows for TLS."""

    kind: str
    first: float = -1.0
    last: float = 2.0
    share: float = 1.0

    def affects(self, row: float, url: str, rng: random.Random) -> bool:
        """Whether it affects the row at this position from 0 to 1. Positions over 1 are requests after the rows."""
        if self.kind.startswith("TLS") and not url.startswith("https:"):
            return False
        return self.first < row <= self.last and rng.random() < self.share


def make_fetched(url: str, reason: Reason, started: float, seconds: float) -> Fetched:
    """Return the result of the fetcher for an outcome."""
    return Fetched(url, reason, "", (Hop(url),), (), b"", 0, 1, seconds, 0, started)


@dataclass
class Shard:
    """A shard: `asked` rows until it was refused (None: committed), rows `hit` by the failure, rows `lost` for good."""

    asked: int | None = None
    hit: int = 0
    lost: int = 0


def fetch_shard(web: Web, rows: int, memory: NetworkMemory, rng: random.Random, fault: Fault | None = None) -> Shard:
    """Fetch one shard and run the detection."""
    urls = [web.url(rng) for _ in range(rows)]
    lost: set[str] = set()

    def outcome(place: float, url: str) -> tuple[Reason, float]:
        lost.discard(url)
        if fault is not None and fault.affects(place, url, rng):
            lost.add(url)
            return FAULT[fault.kind]
        return web.respond(url, rng)

    def probe(urls: Sequence[str]) -> dict[str, Reason]:
        return {
            url: FAULT[fault.kind][0]
            if fault is not None and fault.affects(1.5, url, rng)
            else web.respond(url, rng)[0]
            for url in urls
        }

    def others() -> Iterator[str]:
        return (web.url(rng) for _ in range(1_000))

    watch = ShardWatch(Evidence(memory, probe, others))
    result = Shard()
    asked = 0
    try:
        for place, row in _fetch_rows(urls, outcome):
            asked += 1
            watch.add(place, row, row.reason)
        result.hit = len(lost)
        for place in watch.rows_to_refetch():
            reason, seconds = outcome(1.5, urls[place])
            watch.add(place, make_fetched(urls[place], reason, 1e6, seconds), reason)
        memory.shares.append(watch.finish())
        result.lost = len(lost)
    except LocalFailureError:
        result.asked, result.hit = asked, max(result.hit, len(lost))
    return result


def _fetch_rows(
    urls: Sequence[str], outcome: Callable[[float, str], tuple[Reason, float]]
) -> Iterator[tuple[int, Fetched]]:
    """Yield the rows in the order of their ends, fetched by THREADS threads."""
    free = [0.0] * THREADS
    running: list[tuple[float, int, Fetched]] = []
    for place, url in enumerate(urls):
        started = heapq.heappop(free)
        while running and running[0][0] <= started:
            _, ended, row = heapq.heappop(running)
            yield ended, row
        reason, seconds = outcome((place + 1) / len(urls), url)
        heapq.heappush(free, started + seconds)
        heapq.heappush(running, (started + seconds, place, make_fetched(url, reason, started, seconds)))
    while running:
        _, ended, row = heapq.heappop(running)
        yield ended, row


WEBS = {f"{dead:.0%} of sites dead": Web(dead) for dead in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)} | {
    "30% dead, one dead host with 40% of the rows": Web(0.3, large=0.4),
    "30% dead, 30% of pages gone": Web(0.3, gone=0.3),
    "60% dead, one dead host with 40% of the rows": Web(0.6, large=0.4),
}
SHAPES = {
    **{f"{kind}, the whole shard": Fault(kind) for kind in FAULT},
    "refused from 50 % on": Fault("refused", 0.5),
    "refused from 90 % on": Fault("refused", 0.9),
    "TLS without CA from 90 % on": Fault("TLS without CA", 0.9),
    "connect timeouts from 99 % on": Fault("connect timeouts", 0.99),
    "refused from 40 to 60 %, then working again": Fault("refused", 0.4, 0.6),
    "refused from 49 to 51 %, then working again": Fault("refused", 0.49, 0.51),
    "half of the rows, at random": Fault("refused", share=0.5),
    "three quarters of the rows, at random": Fault("refused", share=0.75),
}


def count_false_alarms(web: Web, rows: int, shards: int, seed: int) -> int:
    """Return the number of good shards of a run that are refused. Every SHARDS_PER_PROCESS shards a process starts."""
    rng, refused = random.Random(seed), 0
    memory = NetworkMemory()
    for number in range(shards):
        if number % SHARDS_PER_PROCESS == 0:
            memory = NetworkMemory()
        refused += fetch_shard(web, rows, memory, rng).asked is not None
    return refused


def measure_detection(fault: Fault, rows: int, shards: int, first: bool, seed: int) -> tuple[float, float, float]:
    """Fetch `shards` shards with affected rows on a web with 30 % dead sites. Return the share that loses no row.

    Also returns the mean number of rows lost in the others, and the median number of rows until a shard is refused.
    With `first` the process has an empty network memory.
    """
    rng, web = random.Random(seed), Web(0.3)
    memory = NetworkMemory()
    if not first:
        for _ in itertools.repeat(None, max(2, 400 // rows)):
            fetch_shard(web, rows, memory, rng)
    faulty: list[Shard] = []
    while len(faulty) < shards:
        found = fetch_shard(web, rows, NetworkMemory() if first else memory, rng, fault)
        if found.hit:
            faulty.append(found)
    lost = [one.lost for one in faulty if one.lost]
    asked = [one.asked for one in faulty if one.asked is not None]
    return (
        1 - len(lost) / shards,
        statistics.mean(lost) if lost else 0.0,
        statistics.median(asked) if asked else 0.0,
    )


def main() -> None:
    """Print the tables and, as the last line, a JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--shards", type=int, default=1_000, help="good shards of each size (default %(default)s)")
    parser.add_argument("--large", type=int, default=200, help="good shards of 10,000 rows (default %(default)s)")
    parser.add_argument(
        "--faulty", type=int, default=200, help="shards with each kind of local failure (default %(default)s)"
    )
    options = parser.parse_args()
    good: dict[str, dict[str, str]] = {}
    total = 0
    print(f"{'good shards refused':<48}" + "".join(f"{f'{size:,} rows':>16}" for size in SIZES))
    for number, (name, web) in enumerate(WEBS.items()):
        shards = [-(-(options.shards if size < 1_000 else options.large) // len(WEBS)) for size in SIZES]
        refused = [count_false_alarms(web, size, count, number) for size, count in zip(SIZES, shards, strict=True)]
        total += sum(refused)
        counts = [f"{count} of {of:,}" for count, of in zip(refused, shards, strict=True)]
        good[name] = dict(zip(map(str, SIZES), counts, strict=True))
        print(f"{name:<48}" + "".join(f"{count:>16}" for count in counts), flush=True)
    found: dict[str, dict[str, float]] = {}
    heads = [f"{size:,} {when}" for size in SIZES for when in ("first", "later")]
    print(f"\n{'% of affected shards without loss (rows fetched)':<48}" + "".join(f"{head:>18}" for head in heads))
    for number, (name, fault) in enumerate(SHAPES.items()):
        found[name] = {}
        cells = []
        for size, first in itertools.product(SIZES, (True, False)):
            shards = options.faulty if size < 1_000 else -(-options.faulty // 10)
            share, lost, asked = measure_detection(fault, size, shards, first, number)
            found[name][f"{size} {'first' if first else 'later'}"] = round(share, 4)
            cells.append(f"{100 * share:.1f} ({asked:,.0f})" + (f" -{lost:,.0f}" if lost else ""))
        print(f"{name:<48}" + "".join(f"{cell:>18}" for cell in cells), flush=True)
    print(json.dumps({"bench": "local_failures", "false_alarms": total, "good": good, "detected": found}))
    sys.exit(1 if total else 0)


if __name__ == "__main__":
    main()
