"""The parquet file of an adopted shard: img2dataset's columns unchanged, `uid` in front and `reason` at the end.

img2dataset writes rows in the order in which their downloads finish, in its parquet file as in its tar. Both keep
this order. If they differ, the rows with an image are put into the order of the tar, which embeddings have, too.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from laion_assets.dataset.layout import SAMPLES_PER_SHARD_KEY, SHARD_DIGITS
from laion_assets.errors import AdoptionError
from laion_assets.reasons import DOWNLOAD_STATUS, RESIZE_STATUS, SUCCESS_STATUS, Reason
from laion_assets.stages.image_shards.adoption.reasons import reason_of

if TYPE_CHECKING:
    import pyarrow as pa

TEXTS = ("key", "url", "caption", "status", "error_message")
SIZES = ("width", "height", "original_width", "original_height")
SOURCE_UID = "source_uid"
"""The name of a column `uid` of img2dataset's input that is another program's."""
_STATUSES = {SUCCESS_STATUS, DOWNLOAD_STATUS, RESIZE_STATUS}
_KEY_DIGITS = SHARD_DIGITS + len(str(SAMPLES_PER_SHARD_KEY - 1))


def read_shard_table(path: Path, shard: int) -> "pa.Table":
    """Read the parquet file of a shard of img2dataset and add `uid` and `reason`.

    Raises AdoptionError with the first column, row or value that does not fit.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    from laion_assets.dataset.identity import compute_uid

    try:
        table = pq.read_table(path)
    except (OSError, ValueError) as error:
        raise AdoptionError(f"its parquet file cannot be read: {error}") from error
    table = _check_columns(table)
    keys, urls, captions = (table.column(name).to_pylist() for name in ("key", "url", "caption"))
    _check_keys(keys, shard)
    if None in urls:
        raise AdoptionError(f"row {keys[urls.index(None)]} of its parquet file has no url")
    statuses, messages = (table.column(name).to_pylist() for name in ("status", "error_message"))
    for key, status in zip(keys, statuses, strict=True):
        if status not in _STATUSES:
            raise AdoptionError(f"row {key} of its parquet file has the unknown status {status!r}")
    uids = [compute_uid(url, caption) for url, caption in zip(urls, captions, strict=True)]
    reasons = [reason_of(status, message).value for status, message in zip(statuses, messages, strict=True)]
    names = table.column_names
    if "uid" in names:
        if table.column("uid").to_pylist() == uids:
            table = table.drop_columns(["uid"])
        else:
            table = table.rename_columns([SOURCE_UID if name == "uid" else name for name in names])
    if "reason" in names:
        reasons = _check_reasons(table.column("reason").to_pylist(), statuses, keys)
        table = table.drop_columns(["reason"])
    table = table.add_column(0, pa.field("uid", pa.string()), pa.array(uids, pa.string()))
    return table.append_column(pa.field("reason", pa.string()), pa.array(reasons, pa.string())).combine_chunks()


def in_order_of(table: "pa.Table", tar_keys: Sequence[str]) -> "pa.Table":
    """Return the table with its images in the order of the tar, which has the same ones; unchanged if it already is."""
    keys, statuses = table.column("key").to_pylist(), table.column("status").to_pylist()
    places = {key: place for place, (key, status) in enumerate(zip(keys, statuses, strict=True)) if status == "success"}
    if list(places) == list(tar_keys):
        return table
    failed = [place for place, status in enumerate(statuses) if status != SUCCESS_STATUS]
    return table.take([*(places[key] for key in tar_keys), *failed])


def _check_columns(table: "pa.Table") -> "pa.Table":
    """Return the table with img2dataset's types. Raises AdoptionError for missing, duplicate or unusable columns."""
    import pyarrow as pa

    names = table.column_names
    if duplicate := sorted({name for name in names if names.count(name) > 1}):
        raise AdoptionError(f"its parquet file has the column {duplicate[0]} more than once")
    if "caption" not in names:
        raise AdoptionError("its parquet file has no column caption: img2dataset ran without caption_col")
    if missing := [name for name in (*TEXTS, *SIZES) if name not in names]:
        raise AdoptionError(f"its parquet file has no column {missing[0]}, so img2dataset did not write it")
    for names_of, kind in ((TEXTS, pa.string()), (SIZES, pa.int32())):
        for name in names_of:
            try:
                cast = table.column(name).cast(kind)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise AdoptionError(f"its column {name} cannot be read as {kind}: {error}") from error
            table = table.set_column(table.column_names.index(name), pa.field(name, kind), cast)
    return table


def _check_keys(keys: list[str | None], shard: int) -> None:
    prefix, seen = f"{shard:0{SHARD_DIGITS}d}", set[str]()
    for place, key in enumerate(keys):
        if key is None or len(key) != _KEY_DIGITS or not (key.isascii() and key.isdigit()):
            raise AdoptionError(
                f"row {place} of its parquet file has the key {key!r}, expected {_KEY_DIGITS} digits: img2dataset must "
                f"run with number_sample_per_shard={SAMPLES_PER_SHARD_KEY}"
            )
        if not key.startswith(prefix):
            raise AdoptionError(f"row {place} of its parquet file has the key {key}, which belongs to another shard")
        if key in seen:
            raise AdoptionError(f"its parquet file has the key {key} twice")
        seen.add(key)


def _check_reasons(reasons: list[str | None], statuses: list[str], keys: list[str]) -> list[str]:
    """Accept the column `reason` of this project's own shards. Raises AdoptionError for other values."""
    checked = []
    for key, reason, status in zip(keys, reasons, statuses, strict=True):
        if reason not in Reason._value2member_map_ or (reason == Reason.SUCCESS) != (status == SUCCESS_STATUS):
            raise AdoptionError(f"row {key} of its parquet file has the unknown reason {reason!r}")
        checked.append(str(reason))
    return checked
