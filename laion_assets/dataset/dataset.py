"""The datasets: declared counts, sources and stage settings.

Another dataset is another value, not another code path.
"""

import re
from dataclasses import dataclass, fields, replace
from functools import cached_property

from laion_assets.dataset.layout import Layout
from laion_assets.dataset.settings.checks import address_and_port, ip_network
from laion_assets.dataset.settings.field import check_settings, setting
from laion_assets.errors import LayoutError, SettingError
from laion_assets.http.policy import FetchPolicy
from laion_assets.stages.clip_embeddings.settings import EmbeddingSettings
from laion_assets.stages.dedup_parquet.settings import MetadataSettings
from laion_assets.stages.image_shards.settings import ImageSettings
from laion_assets.stages.knn_indices.settings import IndexSettings

SAMPLE_SITE = "sample-site:"
"""The source that means the embedded web site, started on loopback for as long as a run needs it. A path may follow."""
SAMPLE_MODEL = "sample-clip"
"""The model that means the small CLIP in this package."""
MAX_NAME_CHARS = 64


@dataclass(frozen=True)
class Dataset:
    """One dataset from crawl CSVs to index: its constants, where it comes from and how each stage treats it.

    `published` names parquet files to start from instead of CSVs: files, folders, patterns with `*`, listings over
    http, by any fsspec URL; they are read where they lie.
    `source` is the URL of a directory listing of CSVs, a folder of them (any fsspec URL), or `sample-site:`.
    `root` is an fsspec URL or path; the dataset's files live under `root/name`. `model` is a CLIP by clip-retrieval's
    name (`ViT-B/32`, `open_clip:ARCH/TAG`, `open_clip:ARCH//checkpoint`, `hf_clip:DIR`) or `sample-clip`. `resolve`
    maps host patterns to the `address:port` that is asked instead of DNS; only these may lie on private networks.
    """

    name: str
    description: str
    layout: Layout
    part_of: str = ""
    """The dataset that this one is a subset of, whose settings, rows and pictures it has."""
    source: str = setting("", "where the crawl CSVs are: a listing's URL, a folder, list:FILE of URLs, or sample-site:")
    published: tuple[str, ...] = setting(
        (),
        "published parquet files to start from instead of CSVs: files, folders, patterns with *, by fsspec URL",
        holds_commas=True,
    )
    root: str = setting("data", "folder or fsspec URL that holds the datasets", non_empty=True)
    model: str = setting("ViT-B/32", "CLIP model, by clip-retrieval's name, or sample-clip", non_empty=True)
    resolve: dict[str, str] = setting(
        {},
        "host -> address:port that is asked instead of DNS. A host may be a pattern (*.test): an exact host wins over "
        "patterns, a longer pattern over a shorter one",
        check=address_and_port,
    )
    blocked_networks: tuple[str, ...] = setting(
        (),
        "networks (203.0.113.0/24) that no URL from data may reach, beside those that are not globally reachable",
        check=ip_network,
    )
    metadata: MetadataSettings = MetadataSettings()
    images: ImageSettings = ImageSettings()
    embeddings: EmbeddingSettings = EmbeddingSettings()
    index: IndexSettings = IndexSettings()
    allow_empty: bool = setting(False, "accept a stage that keeps no row, instead of failing its run")

    def __post_init__(self) -> None:
        if not is_dataset_name(self.folder) or not (set(self.name) <= _NAME_SIGNS and self.name):
            raise SettingError(
                f"Invalid dataset name {self.folder[:80]!r}: it names a folder, asset keys of Dagster and variables. "
                f"Use 1 to {MAX_NAME_CHARS} ASCII letters, digits and underscores, a letter first."
            )
        if self.folder.lower() in RESERVED_NAMES:
            raise SettingError(
                f"Invalid dataset name {self.folder!r}: the settings file and variables use it for settings. "
                f"Choose another, such as my_{self.folder}."
            )
        check_settings(self, "")

    @cached_property
    def uses_sample_site(self) -> bool:
        """Whether the embedded web site serves this dataset's CSVs and pictures."""
        return self.source.startswith(SAMPLE_SITE)

    @property
    def folder(self) -> str:
        """The name of the dataset's folder below `root`: a subset lives in that of the whole."""
        return self.part_of or self.name

    def subset(self, parquets: range) -> "Dataset":
        """A dataset of some consecutive parquet files of this one, whose whole graph, index included, completes.

        Its keys are those of the whole, and so are its files up to `image_shards`: what one has fetched, the other
        does not fetch again. Embedding files and indices are its own, below `subsets/`. Raises LayoutError.
        """
        if self.part_of or parquets.step != 1:
            raise LayoutError(
                f"{self.name} is a subset already: take the subset of {self.part_of or 'consecutive files'}."
            )
        layout = replace(self.layout, window=(parquets.start, parquets.stop))
        keys = [layout.parquet_key(number) for number in (parquets[0], parquets[-1])]
        return replace(
            self,
            name=f"{self.name}_{keys[0]}_{keys[1]}",
            description=f"Parquet files {keys[0]} to {keys[1]} of {self.name}. {self.description}",
            layout=layout,
            part_of=self.name,
        )

    @property
    def fetch_policy(self) -> FetchPolicy:
        """What a fetch of the rows' URLs may do: `images.fetch`, with this dataset's `resolve` and blocked networks."""
        return replace(self.images.fetch, resolve=self.resolve, blocked_networks=self.blocked_networks)

    def with_resolve(self, extra: dict[str, str]) -> "Dataset":
        """This dataset with further `resolve` entries; they win over equal patterns."""
        return replace(self, resolve={**self.resolve, **extra})


def is_dataset_name(name: str) -> bool:
    """Whether this can be the name of a dataset, reserved names included."""
    return re.fullmatch(rf"[A-Za-z][A-Za-z0-9_]{{0,{MAX_NAME_CHARS - 1}}}", name) is not None


_NAME_SIGNS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
RESERVED_NAMES = frozenset(field.name for field in fields(Dataset)) | {"settings", "datasets", "tag"}
"""Names that sections of the settings file, keys at its top and variables have already."""

LAION400M = Dataset(
    name="laion400m",
    description="LAION-400M: 413 million image-text pairs of Common Crawl, filtered by CLIP similarity.",
    layout=Layout(parquet_files=32, shards=41_455, embedding_files=400, rows_per_shard=10_000),
    metadata=MetadataSettings(width_height_swapped=True),
)
"""The real thing. Set `source`, `root` and, where wanted, `model`; Spark and the GPU by their stage's settings."""

SAMPLE = Dataset(
    name="sample",
    description="The embedded sample: procedural pictures with captions, served on loopback, with the web's faults.",
    layout=Layout(parquet_files=4, shards=24, embedding_files=6, rows_per_shard=250),
    source=SAMPLE_SITE,
    model=SAMPLE_MODEL,
    metadata=MetadataSettings(width_height_swapped=True),
    images=ImageSettings(
        fetch=FetchPolicy(connect_timeout_s=3.0, deadline_s=5.0, max_body_bytes=10_000_000), threads=32
    ),
    embeddings=EmbeddingSettings(batch_size=64, files_per_run=6),
    index=IndexSettings(max_index_memory_usage="200M", current_memory_available="2G"),
)
"""Runs offline on a laptop in minutes, with the same code."""

REHEARSAL = Dataset(
    name="rehearsal",
    description="The full layout of LAION-400M with one or two tiny pictures a shard, from the embedded site.",
    layout=replace(LAION400M.layout, rows_per_shard=4),
    source=f"{SAMPLE_SITE}/rehearsal/",
    model=SAMPLE_MODEL,
    images=ImageSettings(
        image_size=64,
        fetch=FetchPolicy(connect_timeout_s=3.0, deadline_s=10.0, max_body_bytes=1_000_000),
        processes=4,  # a shard of one picture mostly waits for the disk
        threads=4,
        shards_per_run=4_200,
    ),
    embeddings=EmbeddingSettings(batch_size=64, files_per_run=100),
    index=IndexSettings(max_index_memory_usage="200M", current_memory_available="2G"),
)
"""Every partition of the real graph, in minutes and offline: to try a deployment, a backfill, a recovery."""

DATASETS = {dataset.name: dataset for dataset in (LAION400M, SAMPLE, REHEARSAL)}
"""Every dataset that `workspace.yaml` and the command line know, by name."""
