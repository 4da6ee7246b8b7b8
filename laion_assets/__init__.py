"""laion_assets: a LAION-style image-text dataset, from crawl CSVs to a searchable CLIP index, as one Dagster graph.

The names in `__all__` are the public API, described in docs/api.md. Each is imported when it is first used, so that
`import laion_assets` itself stays fast.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from laion_assets.api.adoption import adopt
    from laion_assets.api.data import read_embeddings, read_rows, read_samples
    from laion_assets.api.datasets import load_dataset
    from laion_assets.api.figures import read_statistics
    from laion_assets.api.runs import materialize, plan
    from laion_assets.api.states import read_status
    from laion_assets.api.urls import preview_url
    from laion_assets.component import DatasetComponent
    from laion_assets.dataset.dataset import Dataset
    from laion_assets.dataset.embedding_set import EmbeddingSet
    from laion_assets.dataset.layout import Layout
    from laion_assets.errors import LaionAssetsError
    from laion_assets.orchestration.definitions import build_definitions
    from laion_assets.search.query import Searcher
    from laion_assets.stages.status import State

__version__ = "0.1.0"

__all__ = [
    "Dataset",
    "DatasetComponent",
    "EmbeddingSet",
    "LaionAssetsError",
    "Layout",
    "Searcher",
    "State",
    "adopt",
    "build_definitions",
    "load_dataset",
    "materialize",
    "plan",
    "preview_url",
    "read_embeddings",
    "read_rows",
    "read_samples",
    "read_statistics",
    "read_status",
]

_MODULES = {
    "Dataset": "dataset.dataset",
    "DatasetComponent": "component",
    "EmbeddingSet": "dataset.embedding_set",
    "LaionAssetsError": "errors",
    "Layout": "dataset.layout",
    "Searcher": "search.query",
    "State": "stages.status",
    "adopt": "api.adoption",
    "build_definitions": "orchestration.definitions",
    "load_dataset": "api.datasets",
    "materialize": "api.runs",
    "plan": "api.runs",
    "preview_url": "api.urls",
    "read_embeddings": "api.data",
    "read_rows": "api.data",
    "read_samples": "api.data",
    "read_statistics": "api.figures",
    "read_status": "api.states",
}
"""The module of each public name, below this package."""


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
