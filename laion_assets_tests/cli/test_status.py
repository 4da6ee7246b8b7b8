"""`laion-assets status` and the check `up_to_date` show that a run is incomplete because of local failures."""

import json
from dataclasses import replace

import pytest
from click.testing import CliRunner

from laion_assets.cli.status import status
from laion_assets.dataset.built_in import SAMPLE
from laion_assets.errors import LocalFailureError
from laion_assets.orchestration.checks.up_to_date import summarize
from laion_assets.stages.status import DatasetStatus
from laion_assets.store.local_failure_notes import note_local_failures, note_path
from laion_assets.store.store import Store


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A root where two shards of the sample were not committed because of local failures."""
    monkeypatch.setenv("LAION_ASSETS_ROOT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    dataset = replace(SAMPLE, root=str(tmp_path))
    store = Store.of(dataset)
    for key in ("00003", "00007"):
        with pytest.raises(LocalFailureError), note_local_failures(store, "image_shards", key):
            raise LocalFailureError("40 sites failed: check the resolver (DNS) of this machine")
    return dataset


def test_status_counts_local_failures_and_names_what_to_check(root):
    invoked = CliRunner().invoke(status, ["--dataset", "sample"])
    assert invoked.exit_code == 0
    assert "the last run is incomplete, 2 partitions were not committed because of local failures" in invoked.output
    assert "check the resolver (DNS) of this machine" in invoked.output
    output = CliRunner().invoke(status, ["--dataset", "sample", "--json"]).output
    found = json.loads(output[output.index("{") :])
    assert found["image_shards"]["local_failures"] == 2
    assert CliRunner().invoke(status, ["--dataset", "sample", "--check"]).exit_code == 1


def test_check_warns_of_local_failures_until_the_shard_is_committed(root):
    result = summarize(DatasetStatus(root).states("image_shards"), "all")
    assert not result.passed
    assert "2 not committed because of local failures" in (result.description or "")
    assert result.metadata["local_failures"].value == 2
    store = Store.of(root)
    with note_local_failures(store, "image_shards", "00003"):
        pass
    store.write_bytes(note_path("image_shards", "00007"), b"{")
    result = summarize(DatasetStatus(root).states("image_shards"), "all")
    assert result.passed
    assert result.metadata["local_failures"].value == 0
