"""The CSV reader finds the rows and rejects that the crawl declares."""

import io
from collections import Counter

from laion_assets.dataset.built_in import SAMPLE
from laion_assets.dataset.identity import Positions
from laion_assets.sample.crawl import MALFORMED, build_crawl
from laion_assets.stages.dedup_parquet.readers.csv_rows import read_csv_rows
from laion_assets.tables.row_reasons import FileState


def test_rows_and_rejects_are_as_declared() -> None:
    crawl = build_crawl()
    positions = Positions(SAMPLE.layout, range(SAMPLE.layout.parquet_files))
    uids: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for file in crawl.files:
        for batch in read_csv_rows(io.BytesIO(file.content), file.path, SAMPLE.dedup, positions):
            for row in batch.select(["digest", "reason"]).to_pylist():
                if row["reason"] is None:
                    uids[row["digest"]] += 1
                else:
                    reasons[row["reason"]] += 1
    counts = crawl.counts
    assert (len(uids), sum(uids.values())) == (counts.unique, counts.unique + counts.duplicate)
    declared: Counter[str] = Counter()
    for malformed in MALFORMED:
        declared[malformed.reason] += malformed.rows
    declared["file_without_similarity"] = counts.left_out + sum(file.left_out for file in crawl.files)
    for state in FileState:
        reasons.pop(state, None)
    assert reasons == declared
