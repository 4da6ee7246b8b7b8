"""Settings of the index stage."""

from dataclasses import dataclass

from laion_assets.errors import SettingError
from laion_assets.settings.field import setting


@dataclass(frozen=True)
class IndexSettings:
    """autofaiss's budget, by its own option names, and how the recall of what it gives is measured."""

    max_index_memory_usage: str = setting("16G", "size an index may have", changes_bytes=True)
    current_memory_available: str = setting("22G", "memory autofaiss may use while building")
    metric_type: str = setting("ip", "similarity: inner product, the cosine of vectors of norm 1", changes_bytes=True)
    recall_queries: int = setting(500, "vectors sampled to measure recall@10 against exact search")
    cores: int = setting(0, "threads faiss builds and measures with; 0 means one a core")

    def __post_init__(self) -> None:
        if self.metric_type not in ("ip", "l2"):
            raise SettingError(f"index.metric_type is {self.metric_type!r}: use ip or l2 (autofaiss's names).")
        if self.recall_queries < 1:
            raise SettingError(f"index.recall_queries is {self.recall_queries}: recall needs at least 1 query.")
