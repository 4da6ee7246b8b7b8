"""The columns of a shard's parquet file: uid, then img2dataset's columns in its order, then the exact reason."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from laion_assets.dataset.dataset import Dataset
from laion_assets.stages.image_shards.settings import ImageSettings
from laion_assets.tables.column_rules import KeptColumn

if TYPE_CHECKING:
    import pyarrow as pa

_IMG2DATASET_COLUMNS = (
    ("key", "string"),
    ("status", "string"),
    ("error_message", "string"),
    ("width", "int32"),
    ("height", "int32"),
    ("original_width", "int32"),
    ("original_height", "int32"),
)


def add_kept_columns(dataset: Dataset) -> ImageSettings:
    """Return the dataset's image settings with `dedup.keep_columns` as further `additional_columns`."""
    images = dataset.images
    more = [name for name in dataset.dedup.column_rules.kept_names if name not in images.additional_columns]
    return replace(images, additional_columns=(*images.additional_columns, *more)) if more else images


def shard_schema(settings: ImageSettings, kept: Sequence[KeptColumn] = ()) -> "pa.Schema":
    """Return the schema of `image_shards/00000.parquet` (img2dataset 1.47.0's, with uid and `reason`).

    `kept` has the types of additional columns that `dedup.keep_columns` names.
    """
    import pyarrow as pa

    from laion_assets.tables.columns import DEDUP_SCHEMA, with_kept

    source = with_kept(DEDUP_SCHEMA, kept)
    names = ["uid", *(name for name in settings.additional_columns if name != "uid")]
    carried = [pa.field(name, source.field(name).type) for name in names]
    return pa.schema(
        [
            *carried,
            pa.field("caption", pa.string()),
            pa.field("url", pa.string()),
            *(pa.field(name, pa.type_for_alias(kind)) for name, kind in _IMG2DATASET_COLUMNS),
            *([pa.field("exif", pa.string())] if settings.extract_exif else []),
            *([pa.field(settings.compute_hash, pa.string())] if settings.compute_hash != "none" else []),
            pa.field("reason", pa.string()),
        ]
    )
