"""The three implementations that `bench/dedup.py` compares on the same crawl, each in a process of its own.

* ours: `build_dedup_parquet` as in the asset: quarantine, choice of the kept row, order by uid, manifests.
* recipe: laion-prepro's `deduplicate/cah_stats_spark.py`, step by step: headers are read and files grouped by them,
  those without `similarity` left out; Spark's CSV reader in its permissive mode, columns aligned by `union`, cast;
  32 parquet files written and read back, counted; `drop_duplicates([URL, TEXT])`, `orderBy(rand())`, 32 parquet files
  written again, read back, counted. ANSI casts are off, as they were in the Spark 3 that the recipe ran on.
* duckdb: only the distinct and the partitioned write, for reference. Rows that do not parse are dropped; the kept row
  is arbitrary. It has no order, row group per shard or uid.

`python bench/dedup_sides.py SIDE JSON` runs one of them and prints its own measurements as the last line.
"""

import json
import os
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

PARQUET_FILES = 32
COLUMNS = ("SAMPLE_ID", "URL", "TEXT", "HEIGHT", "WIDTH", "LICENSE", "NSFW", "similarity")
CASTS = {"SAMPLE_ID": "bigint", "WIDTH": "int", "HEIGHT": "int", "similarity": "double"}


def dataset_of(rows: int, root: str, cores: int, memory: str) -> Any:
    """Return the dataset of our side: 32 parquet files, shards of at most 10,000 rows."""
    from dataclasses import replace

    from laion_assets.dataset.built_in import LAION400M
    from laion_assets.dataset.layout import Layout
    from laion_assets.dataset.settings.spark import SparkSettings

    shards = max(rows // 9_000, PARQUET_FILES)
    spark = SparkSettings(master=f"local[{cores}]", driver_memory=memory)
    layout = Layout(PARQUET_FILES, shards, 1, 10_000)
    return replace(LAION400M, name="crawl", root=root, layout=layout, spark=spark)


def ours(rows: int, root: str, out: str, cores: int, memory: str) -> dict[str, Any]:
    """Build all partitions with the Spark resource of the asset. `out` is the folder of Spark's shuffle files."""
    from laion_assets.orchestration.resources.spark import SparkResource, end_jvm
    from laion_assets.stages.dedup_parquet.build import build_dedup_parquet
    from laion_assets.store.store import Store

    dataset = dataset_of(rows, root, cores, memory)
    conf = {**dataset.spark.conf, "spark.local.dir": out}
    spark = SparkResource(master=dataset.spark.master, driver_memory=memory, conf=conf)
    session = spark.session()
    try:
        started = time.monotonic()
        build_dedup_parquet(session, dataset, Store.of(dataset), range(PARQUET_FILES), _log)
        return {"seconds": time.monotonic() - started}
    finally:
        end_jvm()


def recipe(rows: int, root: str, out: str, cores: int, memory: str) -> dict[str, Any]:
    """Run the recipe's steps with the same cores and memory."""
    from pyspark.sql import SparkSession
    from pyspark.sql.functions import lit, rand

    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    conf = {"spark.driver.memory": memory, "spark.local.dir": out, "spark.sql.ansi.enabled": "false"}
    conf |= {"spark.ui.enabled": "false", "spark.ui.showConsoleProgress": "false", "spark.log.level": "ERROR"}
    spark = SparkSession.builder.master(f"local[{cores}]").config(map=conf).getOrCreate()
    started = time.monotonic()
    by_header = defaultdict(list)
    for path in sorted(Path(root).glob("crawl/raw_csv/**/*.csv")):
        with path.open(errors="replace") as file:
            by_header[tuple(file.readline().rstrip().split("|"))].append(str(path))
    total = None
    for header, paths in by_header.items():
        if "similarity" not in header:
            continue
        frame = spark.read.options(delimiter="|", header=True).csv(paths)
        frame = frame.select(*[name for name in header if name in COLUMNS])
        for name in COLUMNS:
            if name not in header:
                frame = frame.withColumn(name, lit(""))
        frame = frame.select(*COLUMNS)
        total = frame if total is None else total.union(frame)
    assert total is not None
    for name, kind in CASTS.items():
        total = total.withColumn(name, total[name].cast(kind))
    total.repartition(PARQUET_FILES).write.mode("overwrite").parquet(f"{out}/all")
    _log("recipe: converted the CSV files to parquet")
    everything = spark.read.parquet(f"{out}/all")
    read = everything.count()
    unique = everything.drop_duplicates(["URL", "TEXT"]).orderBy(rand()).repartition(PARQUET_FILES)
    unique.write.mode("overwrite").parquet(f"{out}/unique")
    kept = spark.read.parquet(f"{out}/unique").count()
    seconds = time.monotonic() - started
    spark.stop()
    return {"seconds": seconds, "read": read, "kept": kept}


def duckdb(rows: int, root: str, out: str, cores: int, memory: str) -> dict[str, Any]:
    """Run DuckDB's reader, distinct and partitioned write."""
    import duckdb

    base = duckdb.connect(
        config={"threads": cores, "memory_limit": memory.upper() + "B", "temp_directory": f"{out}/duckdb"}
    )
    base.execute("SET preserve_insertion_order = false")
    started = time.monotonic()
    by_header = defaultdict(list)
    for path in sorted(Path(root).glob("crawl/raw_csv/**/*.csv")):
        with path.open(errors="replace") as file:
            by_header[file.readline().rstrip()].append(str(path))
    reads = []
    for header, paths in by_header.items():
        names = header.split("|")
        if "similarity" not in names:
            continue
        kinds = {name: {"bigint": "BIGINT", "int": "INTEGER", "double": "DOUBLE"}.get(CASTS.get(name, ""), "VARCHAR")
                 for name in names}  # fmt: skip
        wanted = ", ".join(name if name in names else f"NULL AS {name}" for name in COLUMNS)
        reads.append(
            f"SELECT {wanted} FROM read_csv({paths!r}, delim='|', header=true, quote='\"', escape='\"', "
            f"auto_detect=false, ignore_errors=true, columns={kinds!r}, strict_mode=false)"
        )
    base.execute(
        f"COPY (SELECT *, hash(URL, TEXT) % {PARQUET_FILES} AS part FROM (SELECT DISTINCT ON (URL, TEXT) * FROM "
        f"({' UNION ALL BY NAME '.join(reads)}))) "
        f"TO '{out}/duck' (FORMAT parquet, PARTITION_BY (part), COMPRESSION zstd)"
    )
    seconds = time.monotonic() - started
    (kept,) = base.execute(f"SELECT count(*) FROM read_parquet('{out}/duck/*/*.parquet')").fetchone() or (0,)
    return {"seconds": seconds, "kept": kept}


SIDES = {"ours": ours, "recipe": recipe, "duckdb": duckdb}


def _log(line: str) -> None:
    print(f"  {line}", flush=True)


if __name__ == "__main__":
    print(json.dumps(SIDES[sys.argv[1]](**json.loads(sys.argv[2]))))
