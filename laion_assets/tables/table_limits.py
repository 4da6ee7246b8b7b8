"""Limits on the expansion of compressed tables, so that a small file cannot fill the disk or the memory."""

from dataclasses import dataclass

from laion_assets.dataset.settings.field import check_settings, setting

ALWAYS_DECODED_BYTES = 64 << 20
"""Decoded size that is always allowed, however small the file is."""


@dataclass(frozen=True)
class TableLimits:
    """Limits of one input file. They change the output only if a file exceeds them."""

    max_expansion: int = setting(
        100,
        "maximum ratio of the decoded to the compressed size of a table; 64 MiB are always allowed; the rows beyond "
        "are one reject, expansion_limit (crawl tables expand less than 20 times)",
        unit="times",
        min=1,
        max=1_000_000,
        changes_bytes=True,
    )
    max_page_bytes: int = setting(
        128 << 20,
        "maximum decompressed size of a parquet page; a file with a larger page is refused before it is decompressed "
        "(most writers make pages of 1 MiB, DuckDB up to 100 MB)",
        unit="bytes",
        min=1,
        max=1 << 40,
    )

    def __post_init__(self) -> None:
        check_settings(self, "dedup.limits.")

    def allowed_bytes(self, stored: int) -> int:
        """Return the maximum decoded size of a file of which `stored` bytes were read."""
        return max(ALWAYS_DECODED_BYTES, self.max_expansion * stored)
