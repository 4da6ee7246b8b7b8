"""Unfinished downloads after a killed process and after a crash of the machine."""

from hashlib import sha256
from pathlib import Path

import pytest

from laion_assets.errors import LeaseError
from laion_assets.stages.raw_csv.transfers import partial_files as partial
from laion_assets.stages.raw_csv.transfers.partial_files import Held, Origin, Partials

ORIGIN = Origin("http://a.test/1.csv", '"v1"', "", 10)


def reopen(partials: Partials) -> Partials:
    """Close the folder and open it as the next process does."""
    partials.close()
    return Partials(partials.folder)


def test_partial_and_complete_files_survive_their_process(tmp_path: Path) -> None:
    partials = Partials(tmp_path)
    begun = partials.begin("x/1.csv", ORIGIN, '"v1"')
    begun.write(b"012")
    begun.write(b"34")
    whole = partials.begin("x/2.csv", ORIGIN, '"v1"')
    whole.write(b"0123456789")
    whole.finish(ORIGIN)
    partials = reopen(partials)
    assert partials.held("x/1.csv") == Held(ORIGIN, '"v1"', 5)
    assert partials.held("x/2.csv") == Held(ORIGIN, "", 10, sha256(b"0123456789").hexdigest())
    assert partials.held("x/3.csv") is None
    rest = partials.resume("x/1.csv")
    rest.write(b"56789")
    assert rest.finish(ORIGIN) == partials.held("x/2.csv")


def test_truncated_journal_loses_only_its_last_line(tmp_path: Path) -> None:
    partials = Partials(tmp_path)
    for name in ("1", "2"):
        download = partials.begin(name, ORIGIN, "")
        download.write(b"0123456789")
        download.finish(ORIGIN)
    journal = tmp_path / "journal"
    journal.write_bytes(journal.read_bytes()[:-9])
    partials = reopen(partials)
    assert partials.held("1") is not None
    assert partials.held("2") is None
    partials.begin("3", ORIGIN, "").finish(ORIGIN)
    assert reopen(partials).held("3") is not None


def test_after_a_reboot_only_files_with_the_recorded_sha256_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that were only in the system's cache may be lost or zero."""
    partials = Partials(tmp_path)
    for name in ("good", "zeroes", "begun"):
        download = partials.begin(name, ORIGIN, '"v1"')
        download.write(b"0123456789")
        if name != "begun":
            download.finish(ORIGIN)
    Path(partials.file("zeroes")).write_bytes(bytes(10))
    assert reopen(partials).held("zeroes") is not None
    monkeypatch.setattr(partial, "boot_id", lambda: "another start")
    partials = reopen(partials)
    assert partials.held("good") is not None
    assert partials.held("zeroes") is None
    assert partials.held("begun") is None


def test_missing_or_truncated_file_is_not_used(tmp_path: Path) -> None:
    partials = Partials(tmp_path)
    for name in ("missing", "cut"):
        download = partials.begin(name, ORIGIN, "")
        download.write(b"0123456789")
        download.finish(ORIGIN)
    Path(partials.file("missing")).unlink()
    Path(partials.file("cut")).write_bytes(b"0")
    assert (partials.held("missing"), partials.held("cut")) == (None, None)


def test_path_of_a_listing_never_names_a_file(tmp_path: Path) -> None:
    partials = Partials(tmp_path / "in")
    partials.begin("../../out.csv", ORIGIN, "").finish(ORIGIN)
    assert Path(partials.file("../../out.csv")).parent == tmp_path / "in"


def test_clear_leaves_no_files(tmp_path: Path) -> None:
    partials = Partials(tmp_path / "in")
    partials.begin("1", ORIGIN, "").finish(ORIGIN)
    partials.clear()
    assert list(tmp_path.iterdir()) == []
    assert reopen(partials).held("1") is None


def test_journal_that_was_deleted_while_it_was_opened_is_not_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise two processes would lock the folder: one by the deleted journal, one by the new one."""
    first, lock = Partials(tmp_path / "in"), partial.fcntl.flock

    def cleared_meanwhile(journal: int, operation: int) -> None:
        monkeypatch.setattr(partial.fcntl, "flock", lock)
        first.clear()
        first.close()
        lock(journal, operation)

    monkeypatch.setattr(partial.fcntl, "flock", cleared_meanwhile)
    second = Partials(tmp_path / "in")
    with pytest.raises(LeaseError):
        Partials(tmp_path / "in")
    second.close()
