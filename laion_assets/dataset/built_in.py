"""The built-in datasets: LAION-400M, the embedded sample, and a rehearsal of the full layout."""

from dataclasses import replace

from laion_assets.dataset.dataset import SAMPLE_MODEL, SAMPLE_SITE, Dataset
from laion_assets.dataset.fetch_policy import FetchPolicy
from laion_assets.dataset.layout import Layout
from laion_assets.search.settings import SearchSettings
from laion_assets.stages.clip_embeddings.settings import EmbeddingSettings
from laion_assets.stages.dedup_parquet.settings import DedupSettings
from laion_assets.stages.image_shards.settings import ImageSettings
from laion_assets.stages.knn_indices.settings import IndexSettings
from laion_assets.stages.search_report.settings import SearchReportSettings

LAION400M = Dataset(
    name="laion400m",
    description="LAION-400M: 413 million image-text pairs of Common Crawl, filtered by CLIP similarity.",
    layout=Layout(parquet_files=32, shards=41_455, embedding_files=400, rows_per_shard=10_000),
    dedup=DedupSettings(width_height_swapped=True),
)
"""The original dataset. Set `source`, `root` and optionally `model`. Stage settings configure Spark and the GPU."""

SAMPLE_QUERIES = (
    "a red circle",
    "a green star",
    "triangle",
    "something yellow",
    "a blue square and a pink ring",
    "a small red circle left of a large blue square",
    "a green star above a yellow triangle",
    "a purple cross on a white background",
)
"""The queries of the report on procedural images: an object, a shape, a colour, two objects, and whole captions."""

SAMPLE = Dataset(
    name="sample",
    description="The embedded sample: procedural images with captions, served on loopback, with typical web faults.",
    layout=Layout(parquet_files=4, shards=24, embedding_files=6, rows_per_shard=250),
    source=SAMPLE_SITE,
    model=SAMPLE_MODEL,
    dedup=DedupSettings(width_height_swapped=True),
    images=ImageSettings(
        fetch=FetchPolicy(connect_timeout_s=3.0, deadline_s=5.0, max_body_bytes=10_000_000), threads=32
    ),
    embeddings=EmbeddingSettings(batch_size=64, files_per_run=6),
    index=IndexSettings(max_index_memory_usage="200M", current_memory_available="2G"),
    search_report=SearchReportSettings(queries=SAMPLE_QUERIES),
    search=SearchSettings(
        example_queries=(
            "a red circle",
            "a green star",
            "a purple ring",
            "a red circle left of a blue square",
            "a large yellow triangle above a small purple ring",
            "a small cyan cross on a black background",
        )
    ),
)
"""A dataset that runs offline on a laptop in minutes, with the same code."""

REHEARSAL = Dataset(
    name="rehearsal",
    description="The full layout of LAION-400M with one or two tiny images per shard, from the embedded site.",
    layout=replace(LAION400M.layout, rows_per_shard=4),
    source=f"{SAMPLE_SITE}/rehearsal/",
    model=SAMPLE_MODEL,
    images=ImageSettings(
        image_size=64,
        fetch=FetchPolicy(connect_timeout_s=3.0, deadline_s=10.0, max_body_bytes=1_000_000),
        processes=4,  # a shard of one image mostly waits for the disk
        threads=4,
        shards_per_run=4_200,
    ),
    embeddings=EmbeddingSettings(batch_size=64, files_per_run=100),
    index=IndexSettings(max_index_memory_usage="200M", current_memory_available="2G"),
    search_report=SearchReportSettings(queries=SAMPLE_QUERIES),
)
"""All partitions of the real graph, offline and in minutes: to try a deployment, a backfill or a recovery."""

BUILT_IN = {dataset.name: dataset for dataset in (LAION400M, SAMPLE, REHEARSAL)}
"""The built-in datasets by name. `Settings.datasets` also has those that the settings file declares."""
