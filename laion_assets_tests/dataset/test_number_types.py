"""The types of shard, parquet file and embedding file numbers, as mypy checks them."""

import subprocess
import sys
from pathlib import Path

PRELUDE = """
from laion_assets.dataset.layout import EmbeddingNumber, Layout, ParquetNumber, PartitionKey, ShardNumber

layout = Layout(parquet_files=4, shards=24, embedding_files=6, rows_per_shard=250)
shard, parquet = ShardNumber(5), ParquetNumber(1)
"""
RIGHT = """
key: PartitionKey = layout.shard_key(shard)
numbers: list[ShardNumber] = [number for number in layout.shards_of_parquet(parquet)]
embedding: EmbeddingNumber = layout.embedding_of_shard(layout.shard_numbers[0])
"""
WRONG = (
    "layout.shard_key(parquet)",
    "layout.parquet_key(shard)",
    "layout.shards_of_embedding(parquet)",
    "layout.shard_key(5)",
    "layout.uid_range(layout.embedding_of_shard(shard))",
    "key: PartitionKey = '00005'",
)


def test_a_mix_up_of_numbers_of_shards_and_files_is_a_type_error(tmp_path: Path) -> None:
    snippet = tmp_path / "snippet.py"
    lines = (PRELUDE + RIGHT).splitlines() + list(WRONG)
    snippet.write_text("\n".join(lines), "utf-8")
    top = Path(__file__).parent.parent.parent
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file", "", "--follow-imports", "silent"),
            *("--cache-dir", str(tmp_path / "cache"), "--no-error-summary", str(snippet)),
        ],
        capture_output=True,
        text=True,
        cwd=top,
    )
    reported = {int(line.split(":")[1]) for line in checked.stdout.splitlines() if ": error:" in line}
    first = len(lines) - len(WRONG) + 1
    assert reported == set(range(first, len(lines) + 1)), checked.stdout + checked.stderr
