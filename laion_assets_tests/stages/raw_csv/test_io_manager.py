"""Metadata of raw_csv in the Dagster UI."""

from laion_assets.dataset.dataset import Dataset
from laion_assets.stages.raw_csv.io_manager import RawCsvIOManager
from laion_assets.store.manifest import Counts, Manifest


def test_new_changed_and_deleted_files_are_in_the_metadata(dataset: Dataset) -> None:
    details = {
        "changes": {"new": 3, "deleted_kept": 30},
        "deleted_at_source": {f"{n:02d}.csv": "2024-02-29" for n in range(30)},
    }
    manifest = Manifest("raw_csv", "all", (), Counts(0, 0), "", "", details=details)
    metadata = RawCsvIOManager(dataset).describe(0, manifest)
    assert (metadata["files_new"].value, metadata["files_deleted_kept"].value) == (3, 30)
    rows = [record.data for record in metadata["deleted_at_source"].records]
    assert rows[0] == {"file": "00.csv", "noticed": "2024-02-29"}
    assert [row["file"] for row in rows[-2:]] == ["19.csv", "... and 10 more"]
    assert RawCsvIOManager(dataset).describe(0, Manifest("raw_csv", "all", (), Counts(0, 0), "", "")) == {}
