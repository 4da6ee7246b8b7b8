"""Settings of the stage `knn_indices`."""

from dataclasses import dataclass

from laion_assets.dataset.settings.checks import memory_size
from laion_assets.dataset.settings.field import check_settings, setting


@dataclass(frozen=True)
class IndexSettings:
    """Limits for autofaiss, by its own option names, and the measurement of recall."""

    max_index_memory_usage: str = setting(
        "16G",
        "maximum size of an index; autofaiss compresses the vectors to fit",
        check=memory_size,
        changes_bytes=True,
    )
    current_memory_available: str = setting(
        "22G", "memory that autofaiss may use while it builds an index", check=memory_size
    )
    metric_type: str = setting(
        "ip",
        "similarity: ip (inner product, the cosine of vectors of norm 1) or l2 (squared distance)",
        choices=("ip", "l2"),
        changes_bytes=True,
    )
    recall_queries: int = setting(
        500, "number of sampled queries that recall@10 is measured with, against exact search", min=1, max=1_000_000
    )
    min_recall: float = setting(
        0.0,
        "minimum recall@10 of both indices, with images and with captions as queries; an index below is not committed; "
        "0 accepts any",
        min=0.0,
        max=1.0,
    )
    cores: int = setting(0, "threads of faiss; 0 means one per core", min=0, max=1_024)

    def __post_init__(self) -> None:
        check_settings(self, "index.")
