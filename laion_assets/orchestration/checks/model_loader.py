"""How a check gets the CLIP model: only where it encodes again, and never twice."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from laion_assets.stages.clip_embeddings.models.clip_model import ClipModel

ModelLoader = Callable[[], "ClipModel"]
"""Gives the loaded model; the run's resource does, so that a GPU never holds two."""
