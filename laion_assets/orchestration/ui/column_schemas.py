"""Column schemas for the Dagster UI, from the Arrow schemas of the stages' tables."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    import pyarrow as pa

MEANINGS = {
    "uid": "md5 of url and caption, 32 hex digits: the identity of a row",
    "SAMPLE_ID": "number of the sample in the crawl",
    "URL": "URL of the image, normalized",
    "TEXT": "the caption: the image's alt text",
    "HEIGHT": "pixels, according to the crawl",
    "WIDTH": "pixels, according to the crawl",
    "LICENSE": "licence guessed by the crawl; ? if unknown",
    "NSFW": "UNLIKELY, UNSURE or NSFW",
    "similarity": "cosine of image and caption, [-1, 1], by the crawl's CLIP; null where it was out of range",
    "source_file": "the CSV file of the row",
    "source_row": "record number in source_file, from 1",
    "caption": "the caption: the image's alt text",
    "url": "URL of the image, normalized",
    "key": "img2dataset's sample key: shard and row",
    "status": "success, failed_to_download or failed_to_resize",
    "reason": "the outcome by its exact reason",
    "error_message": "what went wrong, in a sentence",
    "width": "pixels of the stored image",
    "height": "pixels of the stored image",
    "original_width": "pixels of the downloaded image",
    "original_height": "pixels of the downloaded image",
    "exif": "technical EXIF tags; nothing personal",
    "sha256": "of the downloaded bytes",
    "clip_similarity": "cosine of image and caption under the model of the embeddings",
    "image_path": "the sample's key in its shard, as clip-retrieval names it",
    "measure": "what is counted, such as width or domain",
    "value": "the counted value; null for rows without one",
    "rows": "rows with this value",
}


def column_lineage(
    schema: "pa.Schema", before: "pa.Schema", key: dg.AssetKey, inputs: Mapping[str, Sequence[str]]
) -> dg.TableColumnLineage:
    """Return which columns of the asset `key`, with the schema `before`, each column of a table is made from.

    `inputs` names them; a column that it does not name is made from the column with its own name, if there is one.
    """
    found = {
        column: [name for name in inputs.get(column, (column,)) if name in before.names] for column in schema.names
    }
    return dg.TableColumnLineage(
        {column: [dg.TableColumnDep(key, name) for name in names] for column, names in found.items() if names}
    )


def table_schema(schema: "pa.Schema") -> dg.TableSchema:
    """An Arrow schema as a Dagster table schema, with the meaning of each column."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                field.name, str(field.type), MEANINGS.get(field.name), dg.TableColumnConstraints(field.nullable)
            )
            for field in schema
        ]
    )
