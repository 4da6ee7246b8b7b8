"""Column schemas for Dagster's catalogue, from the Arrow schemas that the stages write."""

from typing import TYPE_CHECKING

import dagster as dg

from laion_assets.dataset.dataset import Dataset

if TYPE_CHECKING:
    import pyarrow as pa

MEANINGS = {
    "uid": "md5 of url and caption, 32 hex digits: the identity of a row",
    "SAMPLE_ID": "the crawl's own number",
    "URL": "address of the picture, normalised",
    "TEXT": "the caption: the picture's alt text",
    "HEIGHT": "pixels, as the crawl says",
    "WIDTH": "pixels, as the crawl says",
    "LICENSE": "the crawl's guess; ? where it has none",
    "NSFW": "UNLIKELY, UNSURE or NSFW",
    "similarity": "cosine of picture and caption, [-1, 1], by the crawl's CLIP; null where it was out of range",
    "source_file": "the CSV the row came from",
    "source_row": "its record number there, from 1",
    "caption": "the caption: the picture's alt text",
    "url": "address of the picture, normalised",
    "key": "img2dataset's sample key: shard and row",
    "status": "success, failed_to_download or failed_to_resize",
    "reason": "the outcome by its exact reason",
    "error_message": "what went wrong, in words",
    "width": "of the stored picture, pixels",
    "height": "of the stored picture, pixels",
    "original_width": "of the fetched picture, pixels",
    "original_height": "of the fetched picture, pixels",
    "exif": "technical EXIF tags; nothing personal",
    "sha256": "of the fetched bytes",
    "clip_similarity": "cosine of image and caption under the model of the embeddings",
    "image_path": "the sample's key in its shard, as clip-retrieval names it",
    "measure": "what is counted, such as width or domain",
    "value": "the value that occurs; null for rows that have none",
    "rows": "rows with this value",
}


def dedup_columns() -> dg.TableSchema:
    """Columns of `dedup_parquet`."""
    from laion_assets.tables.columns import DEDUP_SCHEMA

    return table_schema(DEDUP_SCHEMA)


def source_columns() -> dg.TableSchema:
    """Columns that are read of crawl CSVs and of published parquet files, where they have them."""
    import pyarrow as pa

    from laion_assets.tables.columns import DEDUP_SCHEMA, WANTED_COLUMNS

    return table_schema(pa.schema([DEDUP_SCHEMA.field(name) for name in WANTED_COLUMNS]))


def shard_columns(dataset: Dataset) -> dg.TableSchema:
    """Columns of a shard's parquet file."""
    from laion_assets.stages.image_shards.shard.columns import shard_schema

    return table_schema(shard_schema(dataset.images))


def embedding_columns(dataset: Dataset) -> dg.TableSchema:
    """Columns of an embedding file's metadata; row i is row i of its npy files."""
    from laion_assets.stages.clip_embeddings.metadata_file import metadata_schema
    from laion_assets.stages.image_shards.shard.columns import shard_schema

    return table_schema(metadata_schema(shard_schema(dataset.images)))


def counts_columns() -> dg.TableSchema:
    """Columns of the statistics' counts."""
    from laion_assets.stages.statistics.counts import COUNTS_SCHEMA

    return table_schema(COUNTS_SCHEMA)


def table_schema(schema: "pa.Schema") -> dg.TableSchema:
    """An Arrow schema as Dagster shows it, with what each column means."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                field.name, str(field.type), MEANINGS.get(field.name), dg.TableColumnConstraints(field.nullable)
            )
            for field in schema
        ]
    )
