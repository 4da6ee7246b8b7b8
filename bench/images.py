"""Images: our shard tasks against img2dataset 1.47.0 on the same photos, URLs and cores.

A thousand web sites on loopback (nginx, one worker per four cores) serve photos with LAION's mix of sizes, over http
and over https with a test CA. Both sides run alternately with the recipe's settings (webdataset, 256 pixels, sha256;
img2dataset with 128 threads per process, ours with its default settings), with one process per core. Ours has the
address guard on, and verifies and commits each shard.

With --engine, a third side runs in each round: our shard tasks with images.engine = "img2dataset". It shows the cost of
guard, verification and commit around img2dataset's own code. The ratio remains ours to the img2dataset program.

images/s: from the first shard's start to the last one's end. CPU: user and system time of all processes of a side,
without its start-up and without nginx. The outputs are compared; differences end the program with status 1.
"""

import json
import os
import platform
import signal
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import image_sides
from image_outputs import Comparison, compare, join
from image_rows import Rows, make_rows
from image_sides import ENGINE, OURS, STOCK, Run
from image_steps import describe_steps, measure_steps
from photo_site import PhotoSite, running
from photographs import Photo, make_photos

from laion_assets.progress import Progress

SIDES = (OURS, STOCK)
SHARDS_PER_PROCESS = 2
MIN_CPU_S = 0.01
"""Lower limit, because a run of few images may use less CPU than an earlier start-up."""
MAX_STEP_ROWS = {"http": 1_000, "https": 300}


class Bench:
    """The runs of one benchmark, with their site, photos, working folder and progress."""

    def __init__(
        self, site: PhotoSite, photos: list[Photo], work: Path, progress: Progress, sides: tuple[str, ...] = SIDES
    ) -> None:
        self.site, self.photos, self.work, self.progress, self.sides = site, photos, work, progress, sides
        self.nginx_ms: dict[tuple[str, str], float] = {}
        self.start_up_s = dict.fromkeys(sides, 0.0)
        self._runs = 0

    def rows(self, scheme: str, count: int, shards: int) -> Rows:
        """Return the rows for a run."""
        return make_rows(self.site, scheme, self.photos, count, shards, seed=count + shards)

    def run(self, side: str, scheme: str, rows: Rows, cores: list[int]) -> Run:
        """Run one engine once."""
        self._runs += 1
        folder = self.work / f"run-{self._runs:03d}-{scheme}-{side}"
        before = self.site.cpu_s()
        run = image_sides.run(side, rows, self.site.resolve(scheme), self.site.ca_file, folder, cores)
        self.nginx_ms[scheme, side] = 1e3 * (self.site.cpu_s() - before) / rows.count
        self.progress.add(1, 0, f"{scheme}, {side} on {len(cores)} cores: {run.rate:,.0f} images/s")
        return run

    def start_up(self, scheme: str, cores: list[int], rounds: int) -> None:
        """Measure `start_up_s`: the minimum CPU of runs with one image per process."""
        for _ in range(rounds):
            rows = self.rows(scheme, len(cores), len(cores))
            for side in self.sides:
                cpu_s = self.run(side, scheme, rows, cores).used.cpu_s
                self.start_up_s[side] = min(cpu_s, self.start_up_s[side] or cpu_s)

    def alternate(self, scheme: str, rows: Rows, cores: list[int], rounds: int) -> tuple[dict, Comparison]:
        """Run all sides alternately, in alternating order. Return the scheme's fields and the comparison."""
        runs: dict[str, list[Run]] = {side: [] for side in self.sides}
        for number in range(rounds):
            for side in self.sides if number % 2 == 0 else self.sides[::-1]:
                runs[side].append(self.run(side, scheme, rows, cores))
        return self._report(scheme, runs), compare(runs[OURS][-1].folder, runs[STOCK][-1].folder)

    def _report(self, scheme: str, runs: dict[str, list[Run]]) -> dict[str, float]:
        rate = {side: statistics.median(run.rate for run in runs[side]) for side in self.sides}
        cpu = {
            side: statistics.median(
                max(run.used.cpu_s - self.start_up_s[side], MIN_CPU_S) * 1e3 / run.images for run in runs[side]
            )
            for side in self.sides
        }
        peak = {side: max(run.used.peak_mib for run in runs[side]) for side in self.sides}
        images = runs[OURS][0].images
        click.echo(f"\n{scheme}: {images:,} images per run, medians of {len(runs[OURS])} rounds, CPU without nginx")
        heads = ("images/s", "CPU ms/image", "start-up CPU s", "nginx ms/image", "peak MiB/process")
        click.echo(f"{'':12}" + "".join(f"{head:>18}" for head in heads) + "   images/s of each round")
        for side in self.sides:
            figures = f"{rate[side]:18,.0f}{cpu[side]:18.2f}{self.start_up_s[side]:18.1f}"
            figures += f"{self.nginx_ms[scheme, side]:18.2f}{peak[side]:18,.0f}"
            click.echo(f"{side:12}{figures}   " + " ".join(f"{run.rate:,.0f}" for run in runs[side]))
        fields = {
            "ours": rate[OURS],
            "peer": rate[STOCK],
            "ratio": rate[OURS] / rate[STOCK],
            "ours_cpu_ms": cpu[OURS],
            "peer_cpu_ms": cpu[STOCK],
            "cpu_ratio": cpu[STOCK] / cpu[OURS],
            "ours_peak_mib": peak[OURS],
            "peer_peak_mib": peak[STOCK],
            "images": images,
        }
        if ENGINE in self.sides:
            fields |= {"engine": rate[ENGINE], "engine_cpu_ms": cpu[ENGINE], "engine_peak_mib": peak[ENGINE]}
        click.echo(f"{'ratio':12}{fields['ratio']:18.2f}{fields['cpu_ratio']:18.2f}")
        return {name: round(value, 3) for name, value in fields.items()}

    def growth(self, scheme: str, count: int, cores: list[int], full: dict[str, float]) -> dict[int, dict[str, float]]:
        """Measure images/s of both engines on 1, 2, 4 ... cores; `full` has the figures for all cores."""
        table = {}
        for used in fewer_cores(len(cores)):
            rows = self.rows(scheme, count * used, SHARDS_PER_PROCESS * used)
            table[used] = {side: round(self.run(side, scheme, rows, cores[:used]).rate, 3) for side in SIDES}
        table[len(cores)] = {OURS: full["ours"], STOCK: full["peer"]}
        click.echo(f"\n{scheme}: images/s by cores (nginx shares the machine)")
        for used, rates in table.items():
            click.echo(f"{used:6}" + "".join(f"   {side} {rates[side]:8,.0f}" for side in SIDES))
        return table

    def steps(self, scheme: str, count: int, cores: list[int]) -> dict[str, dict]:
        """Measure time and CPU by step of both engines, in one process each."""
        rows = self.rows(scheme, min(count, MAX_STEP_ROWS[scheme]), 1)
        found = {}
        for side in SIDES:
            folder = self.work / f"steps-{scheme}-{side}"
            image_sides.prepare(side, rows, self.site.resolve(scheme), folder, 1)
            found[side] = measure_steps(folder, self.site.ca_file, cores)
        click.echo(f"\n{scheme}: ms per image by step, one process ({rows.count:,} images)\n{describe_steps(found)}")
        return found


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--count", default=4_000, help="Images per core and round over http.")
@click.option("--https-count", default=1_000, help="Images per core and round over https, where img2dataset is slow.")
@click.option("--rounds", default=3, help="Rounds; the table has the medians.")
@click.option("--scheme", type=click.Choice(["both", "http", "https"]), default="both", help="What to measure.")
@click.option("--photos", "photo_count", default=600, help="Number of different photos; each is fetched several times.")
@click.option("--hosts", default=1_000, help="Number of hosts (loopback addresses).")
@click.option("--start-up-rounds", default=2, help="Runs that measure the start-up; 0: it is included in the CPU.")
@click.option("--growth/--no-growth", default=True, help="Also measure on 1, 2, 4 ... cores (one round).")
@click.option("--steps/--no-steps", default=True, help="Also measure time and CPU by step (one process).")
@click.option(
    "--engine/--no-engine", default=False, help="Also measure our shard tasks with images.engine img2dataset."
)
@click.option("--cores", "max_cores", type=click.IntRange(min=1), help="Cores to use  [default: all]")
@click.option("--seed", default=400, help="Seed of the photos and of the rows.")
def main(
    count: int, https_count: int, rounds: int, scheme: str, photo_count: int, hosts: int, start_up_rounds: int,
    growth: bool, steps: bool, engine: bool, max_cores: int | None, seed: int,
) -> None:  # fmt: skip
    cores = sorted(os.sched_getaffinity(0))[:max_cores]
    counts = {"http": count, "https": https_count}
    schemes = list(counts) if scheme == "both" else [scheme]
    sides = (*SIDES, ENGINE) if engine else SIDES
    total = len(sides) * (start_up_rounds + rounds * len(schemes)) + 2 * len(fewer_cores(len(cores))) * growth
    result: dict[str, Any] = {"bench": "images", "machine": _describe_machine(cores), "rounds": rounds}
    comparisons = []
    with tempfile.TemporaryDirectory(prefix="bench-images-") as folder:
        work = Path(folder)
        photos = _make_photos(work / "photos", photo_count, seed)
        with running(work / "photos", work / "nginx", hosts, max(1, len(cores) // 4)) as site:
            bench = Bench(site, photos, work, Progress(_log, "runs", total, every_s=0.0), sides)
            bench.start_up(schemes[0], cores, start_up_rounds)
            for each in schemes:
                rows = bench.rows(each, counts[each] * len(cores), SHARDS_PER_PROCESS * len(cores))
                result[each], comparison = bench.alternate(each, rows, cores, rounds)
                comparisons.append(comparison)
            if growth:
                result["cores"] = bench.growth(schemes[0], counts[schemes[0]], cores, result[schemes[0]])
            if steps:
                result["steps"] = {each: bench.steps(each, counts[each], cores) for each in schemes}
    comparison = join(comparisons)
    click.echo(f"\n{comparison.describe()}")
    result |= {name: result[schemes[0]][name] for name in ("ours", "peer", "ratio")} | comparison.fields()
    click.echo(json.dumps(result))
    sys.exit(1 if comparison.differences else 0)


def fewer_cores(cores: int) -> list[int]:
    """Return 1, 2, 4 ... up to fewer than `cores`."""
    return [2**power for power in range(cores.bit_length()) if 2**power < cores]


def _make_photos(folder: Path, count: int, seed: int) -> list[Photo]:
    progress = Progress(_log, "photos", count)
    photos = make_photos(folder, count, seed, lambda done: progress.add(1))
    weight = statistics.median(photo.size / (photo.width * photo.height) for photo in photos)
    click.echo(
        f"{count:,} photos: {sum(photo.longer < 500 for photo in photos) / count:.0%} with a longer side under 500, "
        f"{sum(photo.longer > 1_024 for photo in photos) / count:.0%} over 1,024 pixels; "
        f"{sum(photo.size for photo in photos) / count / 1e3:.0f} kB on average, {weight:.2f} bytes per pixel"
    )
    return photos


def _describe_machine(cores: list[int]) -> dict[str, object]:
    """Print and return the machine's cores, memory and CPU."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "unknown")
    click.echo(f"{len(cores)} cores of {model}, {memory:.0f} GiB, Python {platform.python_version()}")
    return {"cores": len(cores), "memory_gib": round(memory, 1), "cpu": model}


def _log(line: str) -> None:
    click.echo(f"  {line}", err=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a script inherit an ignored SIGINT
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main.main(standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        click.echo("Interrupted. nginx is stopped and the temporary files are deleted.", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except RuntimeError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
