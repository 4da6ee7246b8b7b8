"""Which rows may be shown. The operator decides with `search.show`, never the client."""

from collections.abc import Mapping
from typing import Any

from laion_assets.search.settings import SearchSettings

SAFE_TAG = "UNLIKELY"
"""LAION's tag of rows that are probably safe for work. The others are UNSURE and NSFW."""


def is_shown(row: Mapping[str, Any], settings: SearchSettings) -> bool:
    """Whether a row may be shown: it is tagged UNLIKELY, has no tag, or has a tag in `search.show`."""
    tag = (row.get("NSFW") or "").strip().upper()
    return tag in ("", SAFE_TAG) or tag in settings.show
