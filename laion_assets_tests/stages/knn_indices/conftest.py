"""The small dataset's fixtures, for the tests of this folder."""

from laion_assets_tests.stages.clip_embeddings.fixtures import bare, built, sharded

__all__ = ["bare", "built", "sharded"]
