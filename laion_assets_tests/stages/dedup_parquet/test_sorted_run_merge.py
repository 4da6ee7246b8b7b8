"""Merge of the sorted runs of a partition: its memory is that of one range, for any number of rows."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CHILD = '''
import json, resource, sys
from pathlib import Path
import numpy as np, pyarrow as pa
from laion_assets.stages.dedup_parquet.spark.sorted_run_merge import SortedRunMerge
from laion_assets.stages.dedup_parquet.spark.sorted_runs import _serialise
from laion_assets.tables.columns import ROW_RUN
from laion_assets.stages.dedup_parquet.rows.kept_row import ORDER

folder, runs, range_bytes, room = Path(sys.argv[1]), *(int(number) for number in sys.argv[2:])
RUN_ROWS, URL_BYTES = 20_000, 200
pa.set_memory_pool(pa.system_memory_pool())
draw = np.random.default_rng(7)

def run():
    """Rows of 320 bytes in the order of their digests; every twentieth digest is zero, so all runs share it."""
    digests = draw.integers(0, 256, (RUN_ROWS, 16), np.uint8)
    digests[::20] = 0
    digests = digests[np.lexsort(digests.T[::-1])]
    urls = pa.StringArray.from_buffers(
        RUN_ROWS, pa.py_buffer(np.arange(RUN_ROWS + 1, dtype=np.int32) * URL_BYTES),
        pa.py_buffer(draw.integers(97, 123, RUN_ROWS * URL_BYTES, np.uint8)))
    columns = {"digest": pa.Array.from_buffers(pa.binary(16), RUN_ROWS, [None, pa.py_buffer(digests)]), "URL": urls,
               "source_file": pa.repeat("a.csv", RUN_ROWS), "source_row": pa.array(np.arange(RUN_ROWS))}
    arrays = [columns.get(field.name, pa.nulls(RUN_ROWS, field.type)) for field in ROW_RUN]
    return _serialise(pa.RecordBatch.from_arrays(arrays, schema=ROW_RUN))[0].as_buffer()

with SortedRunMerge(folder / "rows.runs", (0, 1 << 128), ORDER, range_bytes) as merge:
    for _ in range(runs):
        merge.add(run())
    size = (folder / "rows.runs").stat().st_size
    # Private memory, without the pages of the mapped file, which the kernel can drop.
    own = int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmData"))) << 10
    resource.setrlimit(resource.RLIMIT_DATA, (own + room, resource.RLIM_INFINITY))
    unique, found, last = merge.count_distinct(), 0, b""
    for batch in merge.merge(only_first=True):
        found += batch.num_rows
        assert last < batch["digest"][0].as_py()
        last = batch["digest"][-1].as_py()
print(json.dumps({"rows": merge.total, "bytes": size, "unique": unique, "found": found}))
'''
MIB = 1 << 20
ROOM = 80 * MIB


def run_merge(folder: Path, runs: int, range_bytes: int) -> subprocess.CompletedProcess[str]:
    """Merge runs of 20,000 rows in a process with a limit of ROOM additional bytes."""
    command = [sys.executable, "-c", CHILD, str(folder), str(runs), str(range_bytes), str(ROOM)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("runs", [10, 50])
def test_merge_needs_the_memory_of_one_range(tmp_path: Path, runs: int) -> None:
    done = run_merge(tmp_path, runs, 8 * MIB)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["rows"] == runs * 20_000
    assert result["unique"] == result["found"] == runs * 19_000 + 1
    if runs > 10:
        assert result["bytes"] > 3 * ROOM, "the rows would fit into the limit"


def test_merge_in_one_range_exceeds_the_memory_limit(tmp_path: Path) -> None:
    """The limit is effective: without ranges the same merge exceeds it."""
    done = run_merge(tmp_path, 50, 1 << 40)
    assert done.returncode != 0
    assert "MemoryError" in done.stderr
