"""The datasets: declared counts, sources and stage settings.

Another dataset is another `Dataset` value, not another code path.
"""

from dataclasses import dataclass, fields, replace
from functools import cached_property

from laion_assets.dataset.embedding_set import MAX_NAME_CHARS, EmbeddingSet, check_set_names, is_dataset_name
from laion_assets.dataset.fetch_policy import FetchPolicy
from laion_assets.dataset.layout import Layout, ParquetNumber
from laion_assets.dataset.settings.checks import address_and_port, ip_network
from laion_assets.dataset.settings.dagster_settings import DagsterSettings
from laion_assets.dataset.settings.field import check_settings, setting
from laion_assets.dataset.settings.spark import SparkSettings
from laion_assets.errors import LayoutError, SettingError
from laion_assets.search.settings import SearchSettings
from laion_assets.stages.clip_embeddings.settings import EmbeddingSettings
from laion_assets.stages.dedup_parquet.settings import DedupSettings
from laion_assets.stages.image_shards.settings import ImageSettings
from laion_assets.stages.knn_indices.settings import IndexSettings
from laion_assets.stages.raw_csv.settings import CsvSettings
from laion_assets.stages.search_report.settings import SearchReportSettings

SAMPLE_SITE = "sample-site:"
"""The source that selects the embedded web site. It runs on loopback while a run needs it. A path may follow."""
SAMPLE_MODEL = "sample-clip"
"""The name of the small CLIP model in this package."""


@dataclass(frozen=True)
class Dataset:
    """One dataset, from crawl CSVs to the index: its layout, its source, and the settings of each stage.

    `source` is the URL of a directory listing of CSVs, a folder of them (any fsspec URL), `list:FILE`, or
    `sample-site:`. `published` names parquet files to start from instead of CSVs: files, folders, patterns with `*`, or
    http listings, by any fsspec URL. They are read in place and not copied.
    `root` is a path or fsspec URL. The files of the dataset are in `root/name`.
    `model` is a CLIP model by its clip-retrieval name (`ViT-B/32`, `open_clip:ARCH/TAG`, `open_clip:ARCH//checkpoint`,
    `hf_clip:DIR`) or `sample-clip`.
    `resolve` maps host patterns to an `address:port` that replaces DNS. Only these hosts, and all hosts in
    `allow_networks`, may be on private networks.
    """

    name: str
    description: str
    layout: Layout
    parents: tuple[str, ...] = ()
    """The datasets that a subset or an embedding set is taken from, nearest first. It has the settings, rows and images
    of the last one, and its files are in that one's folder."""
    set_name: str = ""
    """The name of the embedding set that this is, or is a subset of, within its dataset."""
    embedding_sets: tuple[EmbeddingSet, ...] = ()
    """Further models of this dataset, each with embeddings and indices of its own over the same images."""
    source: str = setting(
        "",
        "crawl CSVs: URL of a directory listing, a folder, list:FILE with one URL per line, or sample-site:",
    )
    published: tuple[str, ...] = setting(
        (),
        "published parquet files to start from instead of CSVs: files, folders or patterns with *, by fsspec URL",
        holds_commas=True,
    )
    root: str = setting("data", "folder or fsspec URL of the datasets; each dataset is a folder in it", non_empty=True)
    model: str = setting(
        "ViT-B/32", "CLIP model: a name of clip-retrieval, or sample-clip for the embedded model", non_empty=True
    )
    resolve: dict[str, str] = setting(
        {},
        "host -> address:port that replaces DNS. A host may be a pattern (*.test). An exact host takes precedence over "
        "patterns, and a longer pattern over a shorter one",
        check=address_and_port,
    )
    blocked_networks: tuple[str, ...] = setting(
        (),
        "networks, such as 203.0.113.0/24, blocked for URLs from data, in addition to private and reserved networks",
        check=ip_network,
    )
    allow_networks: tuple[str, ...] = setting(
        (),
        "networks, such as 10.20.0.0/16, that URLs from data may use although they are private or reserved. Metadata "
        "services of clouds (169.254.0.0/16, 168.63.129.16, ...) only if the entry is that one address",
        check=ip_network,
    )
    csv: CsvSettings = CsvSettings()
    dedup: DedupSettings = DedupSettings()
    images: ImageSettings = ImageSettings()
    embeddings: EmbeddingSettings = EmbeddingSettings()
    index: IndexSettings = IndexSettings()
    search: SearchSettings = SearchSettings()
    search_report: SearchReportSettings = SearchReportSettings()
    spark: SparkSettings = SparkSettings()
    dagster: DagsterSettings = DagsterSettings()
    allow_empty: bool = setting(False, "allow a stage to keep no row or few rows; by default its run fails")
    min_kept_share: float = setting(
        0.1,
        "share of the rows that a stage must keep, or its run fails; duplicates and rows dropped by dedup.where do not "
        "count. 0: one row is enough",
        min=0.0,
        max=1.0,
    )
    rebuild_before: str = ""
    """Partitions that were committed before this time (ISO 8601, UTC) count as stale: `materialize --force`."""

    def __post_init__(self) -> None:
        if not is_dataset_name(self.folder) or not (set(self.name) <= _NAME_SIGNS and self.name):
            raise SettingError(
                f"Invalid dataset name {self.folder[:80]!r}: it is used in a folder, Dagster asset keys and variables. "
                f"Use 1 to {MAX_NAME_CHARS} ASCII letters, digits and underscores, starting with a letter."
            )
        if self.folder.lower() in RESERVED_NAMES:
            raise SettingError(
                f"Invalid dataset name {self.folder!r}: the name is reserved for settings. "
                f"Choose another name, for example my_{self.folder}."
            )
        check_settings(self, "")
        check_set_names(self.name, self.embedding_sets, RESERVED_NAMES)

    @cached_property
    def uses_sample_site(self) -> bool:
        """Whether the embedded web site serves the CSVs and images of this dataset."""
        return self.source.startswith(SAMPLE_SITE)

    @property
    def folder(self) -> str:
        """The name of the folder below `root`. A subset and an embedding set use the folder of their dataset."""
        return self.parents[-1] if self.parents else self.name

    @property
    def own_folder(self) -> str:
        """The folder in `folder` of the files that a subset or an embedding set does not share; else empty."""
        if not self.parents:
            return ""
        return f"embedding_sets/{self.set_name}" if self.layout.window is None else f"subsets/{self.name}"

    @property
    def graph(self) -> str:
        """The dataset whose Dagster graph has its assets. An embedding set is part of the graph of its dataset."""
        return self.folder if self.own_folder.startswith("embedding_sets/") else self.name

    def subset(self, parquets: range) -> "Dataset":
        """Return a dataset of consecutive parquet files of this one, with a complete graph, including an index.

        It has the partition keys of the whole dataset and shares its files up to `image_shards`, so nothing is fetched
        twice. It has its own embedding files and indices, below `subsets/`. Raises LayoutError.
        """
        if self.layout.window is not None:
            raise LayoutError(f"{self.name} is already a subset. Take a subset of {self.parents[0]} instead.")
        if parquets.step != 1:
            raise LayoutError(f"Invalid subset {parquets} of {self.name}: its parquet files must be consecutive.")
        layout = replace(self.layout, window=(parquets.start, parquets.stop))
        keys = [layout.parquet_key(ParquetNumber(number)) for number in (parquets[0], parquets[-1])]
        return replace(
            self,
            name=f"{self.name}_{keys[0]}_{keys[1]}",
            description=f"Parquet files {keys[0]} to {keys[1]} of {self.name}. {self.description}",
            layout=layout,
            parents=(self.name, *self.parents),
            embedding_sets=(),
        )

    def embedding_set(self, name: str) -> "Dataset":
        """Return an embedding set of `embedding_sets` as a dataset: the same rows and images, with its own model.

        It shares the files up to `image_shards` and the statistics, so nothing is fetched twice. It has its own
        embedding files, indices and search report, below `embedding_sets/`. Raises SettingError.
        """
        found = next((each for each in self.embedding_sets if each.name == name), None)
        if found is None:
            names = ", ".join(each.name for each in self.embedding_sets)
            raise SettingError(
                f"Unknown embedding set {name!r} of {self.name}. "
                + (f"Choose from {names}." if names else "It has none: declare one in embedding_sets.")
            )
        return replace(
            self,
            name=f"{self.name}_{name}",
            description=f"Embedding set {name} of {self.name}. {self.description}",
            model=found.model,
            parents=(self.name,),
            set_name=name,
            embedding_sets=(),
            **found.groups,
        )

    @property
    def fetch_policy(self) -> FetchPolicy:
        """The fetch policy for the rows' URLs: `images.fetch` with this dataset's `resolve` and networks."""
        return replace(
            self.images.fetch,
            resolve=self.resolve,
            blocked_networks=self.blocked_networks,
            allow_networks=self.allow_networks,
        )

    def with_resolve(self, extra: dict[str, str]) -> "Dataset":
        """Return this dataset with more `resolve` entries. They replace entries with the same pattern."""
        return replace(self, resolve={**self.resolve, **extra})


_NAME_SIGNS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
RESERVED_NAMES = frozenset(field.name for field in fields(Dataset)) | {"settings", "dataset", "datasets", "tag"}
"""Names already used by sections and top-level keys of the settings file, and by environment variables."""
