"""The description of the toy stage."""

from dataclasses import dataclass
from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout
from laion_assets.stages.dedup_parquet.stage import STAGE as DEDUP_PARQUET
from laion_assets.stages.handle import Handle
from laion_assets.stages.stage import Stage

CAPTION_LANGUAGES = "caption_languages"
PACKAGE = "laion_assets_tests.stages.toy_stage"
settings = {"ascii_is": "english"}
"""Used in place of the stage's settings."""


@dataclass(frozen=True)
class CaptionLanguages(Handle):
    """Captions by language: `caption_languages/KEY.json`."""

    asset = CAPTION_LANGUAGES

    @staticmethod
    def numbers(layout: Layout) -> range:
        return layout.parquet_numbers

    @staticmethod
    def key(layout: Layout, partition: int) -> str:
        return layout.parquet_key(partition)

    @classmethod
    def paths(cls, layout: Layout, key: str) -> tuple[str, ...]:
        return (f"{CAPTION_LANGUAGES}/{key}.json",)


def byte_settings(dataset: Dataset) -> dict[str, Any]:
    """The settings that change the counts."""
    return dict(settings)


STAGE = Stage(
    handle=CaptionLanguages,
    description="Count captions by language.\n\nThe language is guessed from the letters.",
    invariant="Input rows = captions counted.",
    byte_settings=byte_settings,
    asset=f"{PACKAGE}.asset:caption_languages_asset",
    io_manager=f"{PACKAGE}.io_manager:CaptionLanguagesIOManager",
    check=f"{PACKAGE}.check:find_problems",
    kinds=("json",),
    upstream=lambda dataset: DEDUP_PARQUET,
    reads=lambda layout, parquet: range(parquet, parquet + 1),
    is_partitioned=True,
    partitions_per_run=lambda dataset: 2,
)
