"""The CLIP model as a Dagster resource, on a GPU if there is one."""

from typing import Any

import dagster as dg
from pydantic import PrivateAttr


class ClipModelResource(dg.ConfigurableResource):
    """A CLIP model by clip-retrieval's name, loaded on first use and freed at the end of the run."""

    model: str
    device: str = "auto"
    precision: str = "auto"
    reader_processes: int = 0
    cpu_threads: int = 0
    _loaded: Any = PrivateAttr(default=None)

    def load(self) -> Any:
        """Return the loaded `ClipModel`. Raises ModelError."""
        if self._loaded is None:
            from laion_assets.models.loading import load_model
            from laion_assets.stages.clip_embeddings.pipeline.pools import pool_starter

            self._loaded = load_model(
                self.model, self.device, self.precision, pool_starter(self.reader_processes), self.cpu_threads
            )
        return self._loaded

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Free the memory of the model, also on the GPU."""
        if self._loaded is not None:
            self._loaded.close()
            self._loaded = None
            import torch

            if torch.cuda.is_available():
                torch.cuda.empty_cache()
