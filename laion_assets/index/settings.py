"""Settings of the index stage."""

from dataclasses import dataclass

from laion_assets.settings.field import setting


@dataclass(frozen=True)
class IndexSettings:
    """autofaiss's budget, by its own option names, and the recall that an index must reach to be published."""

    max_index_memory_usage: str = setting("16G", "size an index may have", changes_bytes=True)
    current_memory_available: str = setting("22G", "memory autofaiss may use while building")
    metric_type: str = setting("ip", "similarity: inner product, the cosine of vectors of norm 1", changes_bytes=True)
    recall_queries: int = setting(500, "vectors sampled to measure recall@10 against exact search")
