"""Limits on how far a compressed table may expand, so that a small file cannot fill the disk or the memory."""

from dataclasses import dataclass

from laion_assets.dataset.settings.field import check_settings, setting

ALWAYS_DECODED_BYTES = 64 << 20
"""Any file may decode to this size, however small it is."""


@dataclass(frozen=True)
class TableLimits:
    """Limits of one input file. They change bytes only where a file exceeds them."""

    max_expansion: int = setting(
        100,
        "a compressed table may decode to this many times its own size, to 64 MiB in any case; what follows is one "
        "reject, expansion_limit (crawl tables decode to less than 20 times)",
        unit="times",
        min=1,
        max=1_000_000,
        changes_bytes=True,
    )
    max_page_bytes: int = setting(
        128 << 20,
        "a parquet file with a larger decompressed page is refused before the page is decompressed; writers make pages "
        "of 1 MiB, DuckDB of up to 100 MB",
        unit="bytes",
        min=1,
        max=1 << 40,
    )

    def __post_init__(self) -> None:
        check_settings(self, "dedup.limits.")

    def allowed_bytes(self, stored: int) -> int:
        """Bytes that a file, of which `stored` bytes were read, may decode to."""
        return max(ALWAYS_DECODED_BYTES, self.max_expansion * stored)
