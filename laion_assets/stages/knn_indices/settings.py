"""Settings of the index stage."""

from dataclasses import dataclass

from laion_assets.dataset.settings.checks import memory_size
from laion_assets.dataset.settings.field import check_settings, setting


@dataclass(frozen=True)
class IndexSettings:
    """autofaiss's budget, by its own option names, and how the recall of what it gives is measured."""

    max_index_memory_usage: str = setting("16G", "size an index may have", check=memory_size, changes_bytes=True)
    current_memory_available: str = setting("22G", "memory autofaiss may use while building", check=memory_size)
    metric_type: str = setting(
        "ip", "similarity: inner product, the cosine of vectors of norm 1", choices=("ip", "l2"), changes_bytes=True
    )
    recall_queries: int = setting(
        500, "vectors sampled to measure recall@10 against exact search", min=1, max=1_000_000
    )
    cores: int = setting(0, "threads faiss builds and measures with; 0 means one a core", min=0, max=1_024)

    def __post_init__(self) -> None:
        check_settings(self, "index.")
