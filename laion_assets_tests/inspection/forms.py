"""The same rows as the files that users have: parquet, CSV with two separators, JSON lines, a Hugging Face folder."""

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

Rows = Sequence[tuple[str, str]]
"""(URL, caption) each."""


def write_parquet(folder: Path, rows: Rows) -> Path:
    folder.mkdir()
    _parquet(folder / "part-0.parquet", rows)
    return folder


def write_comma_csv(folder: Path, rows: Rows) -> Path:
    folder.mkdir()
    (folder / "pairs.csv").write_bytes(_csv(rows, ",", ("url", "caption")))
    return folder


def write_pipe_csv(folder: Path, rows: Rows) -> Path:
    folder.mkdir()
    half = len(rows) // 2
    (folder / "a.csv").write_bytes(_csv(rows[:half], "|", ("URL", "TEXT")))
    (folder / "b.csv").write_bytes(_csv(rows[half:], "|", ("URL", "TEXT")))
    return folder


def write_json_lines(folder: Path, rows: Rows) -> Path:
    folder.mkdir()
    lines = [json.dumps({"id": number, "url": url, "caption": caption}) for number, (url, caption) in enumerate(rows)]
    (folder / "pairs.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return folder


def write_hugging_face(folder: Path, rows: Rows) -> Path:
    (folder / "data").mkdir(parents=True)
    (folder / "README.md").write_text("# A dataset card\n", encoding="utf-8")
    (folder / "dataset_infos.json").write_text("{}\n", encoding="utf-8")
    for part in range(5):
        size = -(-len(rows) // 5)
        some = rows[part * size : (part + 1) * size]
        _parquet(folder / "data" / f"train-{part:05d}-of-00005.parquet", some, ("image_url", "text"))
    return folder


FORMS: dict[str, Callable[[Path, Rows], Path]] = {
    "parquet": write_parquet,
    "comma_csv": write_comma_csv,
    "pipe_csv": write_pipe_csv,
    "json_lines": write_json_lines,
    "hugging_face": write_hugging_face,
}
"""A function for each form: it writes the rows to a new folder and returns it."""


def _parquet(path: Path, rows: Rows, names: tuple[str, str] = ("url", "caption")) -> None:
    urls, captions = zip(*rows, strict=True)
    table = pa.table({names[0]: urls, names[1]: captions, "width": list(range(len(rows))), "tags": [["a"]] * len(rows)})
    pq.write_table(table, path)


def _csv(rows: Rows, separator: str, header: tuple[str, str]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=separator, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue().encode()
