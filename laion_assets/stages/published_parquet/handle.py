"""The handle of `published_parquet`."""

from dataclasses import dataclass
from typing import ClassVar

from laion_assets.dataset.layout import Layout
from laion_assets.stages.handle import Handle

PUBLISHED_PARQUET = "published_parquet"


@dataclass(frozen=True)
class PublishedParquet(Handle):
    """Parquet files that others published, read in place; `published_parquet/files.json` lists what was observed."""

    asset = PUBLISHED_PARQUET
    LIST: ClassVar[str] = f"{PUBLISHED_PARQUET}/files.json"

    @classmethod
    def paths(cls, layout: Layout, key: str) -> tuple[str, ...]:
        return (cls.LIST,)
