"""The result of building a partition."""

from typing import NamedTuple

from laion_assets.store.manifest import Manifest


class BuildResult(NamedTuple):
    """A committed partition; `was_built` is False if it was complete before and nothing was done."""

    manifest: Manifest
    was_built: bool
