"""The pictures of some rows of a shard: fetched, resized and packed into a tar, a parquet and stats in a folder.

img2dataset's Downloader does the work, with our opener, resizer and sample writer. Worker-side: heavy libraries are
imported inside.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from laion_assets.datasets import Dataset
from laion_assets.errors import ShardError
from laion_assets.images.environment import quieten
from laion_assets.images.fetching.fetch import shared_fetcher
from laion_assets.images.fetching.opener import GuardedOpener, installed
from laion_assets.images.fetching.policy import FetchPolicy
from laion_assets.layout import SAMPLES_PER_SHARD_KEY, SHARD_DIGITS

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".tar", ".parquet", "_stats.json")


@dataclass(frozen=True)
class FetchedRows:
    """What fetching made: local files by suffix, and the run's own figures (requests, bytes, seconds)."""

    files: dict[str, Path]
    tally: dict[str, float]


def fetch_rows(dataset: Dataset, shard: int, rows: "pa.Table", positions: Sequence[int], folder: Path) -> FetchedRows:
    """Fetch these rows of dedup_parquet, whose places in the shard are `positions`, ascending, into a new `folder`.

    Every row is in the parquet with its outcome, and in the tar where it has a picture, under the key of its place:
    as bytes, the same as in a shard that is fetched whole. Raises ShardError for a column that is not there, OSError
    for a disk that fails.
    """
    quieten()
    from img2dataset.downloader import Downloader

    from laion_assets.images.resizer import GuardedResizer
    from laion_assets.images.sample_writer import SortedSampleWriter

    images, layout = dataset.images, dataset.layout
    folder.mkdir()
    table = _columns(dataset, rows)
    feather = folder / "rows.feather"
    _write_feather(table, feather)
    keys = {layout.sample_key(shard, place): layout.sample_key(shard, one) for place, one in enumerate(positions)}
    expected = dict(zip(keys.values(), table.to_pylist(), strict=True))

    def sample_writer(*arguments: Any) -> SortedSampleWriter:
        return SortedSampleWriter(
            *arguments, expected=expected, keys=keys, keep_personal_exif=images.keep_personal_exif
        )

    opener = GuardedOpener(shared_fetcher(FetchPolicy.of(images, dataset.resolve)))
    downloader = Downloader(
        sample_writer_class=sample_writer,
        resizer=opener.consuming(GuardedResizer(images)),
        thread_count=max(1, min(images.threads, rows.num_rows)),
        save_caption=True,
        extract_exif=images.extract_exif,
        output_folder=str(folder),
        column_list=table.column_names,
        timeout=images.deadline_s,
        number_sample_per_shard=SAMPLES_PER_SHARD_KEY,
        oom_shard_count=SHARD_DIGITS,
        compute_hash=None if images.compute_hash == "none" else images.compute_hash,
        verify_hash_type=None,
        encode_format=images.encode_format,
        retries=0,  # ours are in the opener, which knows what is worth another try
        user_agent_token=None,
        disallowed_header_directives=None,  # judged in the opener, before the body is read
    )
    with installed(opener):
        downloader.download_shard((shard, str(feather)))
    files = {suffix: folder / f"{layout.shard_key(shard)}{suffix}" for suffix in SUFFIXES}
    return FetchedRows(files, opener.tally.as_dict())


def _columns(dataset: Dataset, rows: "pa.Table") -> "pa.Table":
    """The rows as img2dataset's Downloader wants them: uid, additional columns, caption, url."""
    import pyarrow as pa

    additional = [name for name in dataset.images.additional_columns if name != "uid"]
    missing = [name for name in additional if name not in rows.column_names]
    if missing:
        raise ShardError(
            f"images.additional_columns names {', '.join(missing)}, which dedup_parquet does not have: it has "
            f"{', '.join(rows.column_names)}."
        )
    names = ["uid", *additional, "caption", "url"]
    sources = ["uid", *additional, "TEXT", "URL"]
    return pa.table({name: rows.column(source) for name, source in zip(names, sources, strict=True)})


def _write_feather(table: "pa.Table", path: Path) -> None:
    """An Arrow IPC file, as img2dataset's Reader hands to its Downloader (which removes it at the end)."""
    import pyarrow as pa

    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
