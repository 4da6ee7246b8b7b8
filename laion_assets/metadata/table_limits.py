"""Limits on how far a compressed table may expand, so that a small file cannot fill the disk or the memory."""

from dataclasses import dataclass

from laion_assets.errors import SettingError
from laion_assets.settings.field import setting

ALWAYS_DECODED_BYTES = 64 << 20
"""Any file may decode to this size, however small it is."""


@dataclass(frozen=True)
class TableLimits:
    """Limits of one input file. They change bytes only where a file exceeds them. Raises SettingError below 1."""

    max_expansion: int = setting(
        100,
        "a compressed table may decode to this many times its own size, to 64 MiB in any case; what follows is one "
        "reject, expansion_limit (crawl tables decode to less than 20 times)",
        unit="times",
        changes_bytes=True,
    )
    max_page_bytes: int = setting(
        128 << 20,
        "a parquet file with a larger decompressed page is refused before the page is decompressed; writers make pages "
        "of 1 MiB, DuckDB of up to 100 MB",
        unit="bytes",
    )

    def __post_init__(self) -> None:
        for name in ("max_expansion", "max_page_bytes"):
            if getattr(self, name) < 1:
                raise SettingError(f"metadata.limits.{name} is {getattr(self, name)}: it must be at least 1.")

    def allowed_bytes(self, stored: int) -> int:
        """Bytes that a file, of which `stored` bytes were read, may decode to."""
        return max(ALWAYS_DECODED_BYTES, self.max_expansion * stored)
