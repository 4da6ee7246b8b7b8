"""Settings of the image stage."""

from dataclasses import dataclass

from laion_assets.errors import SettingError
from laion_assets.settings.field import setting


@dataclass(frozen=True)
class ImageSettings:
    """How images are fetched and resized; defaults are the LAION-400M recipe's unless the help says why not."""

    image_size: int = setting(256, "side of the output", unit="pixels", changes_bytes=True)
    resize_mode: str = setting("border", "img2dataset's resize mode", changes_bytes=True)
    encode_quality: int = setting(95, "JPEG quality of the output", changes_bytes=True)
    scaled_decoding: bool = setting(
        True,
        "decode a JPEG at half size or less where twice the target size remains: less CPU, other bytes",
        changes_bytes=True,
    )
    additional_columns: tuple[str, ...] = setting(
        ("NSFW", "similarity", "LICENSE"), "columns copied into each sample, beside uid", changes_bytes=True
    )
    min_image_size: int = setting(
        4, "an image with a shorter side is refused: tracking pixels and spacers", unit="pixels", changes_bytes=True
    )
    max_aspect_ratio: float = setting(
        128.0, "a longer strip is refused: its shorter side would be under 2 of 256 pixels", changes_bytes=True
    )
    keep_personal_exif: bool = setting(
        False, "keep every EXIF tag in the column exif, place and device included", changes_bytes=True
    )
    connect_timeout_s: float = setting(5.0, "longest wait for a connection, and for a byte on it", unit="s")
    deadline_s: float = setting(20.0, "longest time one URL may take, redirects and body included", unit="s")
    max_body_bytes: int = setting(20_000_000, "a larger body is refused while it is read", unit="bytes")
    max_pixels: int = setting(100_000_000, "an image whose header declares more is refused", unit="pixels")
    max_redirects: int = setting(5, "redirects followed for one URL")
    retries: int = setting(1, "further tries after a fault that may pass (reset, short body, DNS, 5xx)")
    allowed_ports: tuple[int, ...] = setting((80, 443), "ports a URL may name; the sites of `resolve` are exempt")
    user_agent: str = setting(
        "laion-assets/0.1 (+https://github.com/laion-assets/laion-assets)", "User-Agent header: honest, with a contact"
    )
    opt_out_directives: tuple[str, ...] = setting(
        ("noai", "noimageai", "noindex", "noimageindex"),
        "X-Robots-Tag directives that refuse us (img2dataset's); TDM-Reservation: 1 always does",
    )
    opt_out_tokens: tuple[str, ...] = setting(
        ("laion-assets", "img2dataset"), "bot names whose scoped X-Robots-Tag directives mean us"
    )
    max_own_failures: float = setting(
        0.5, "a shard with a larger share of DNS failures and own faults is not published", unit="share"
    )
    processes: int = setting(0, "worker processes; 0 means one a core")
    threads: int = setting(64, "fetching threads a worker process")
    shards_per_run: int = setting(1_000, "shards one Dagster run covers in a backfill")

    def __post_init__(self) -> None:
        if self.deadline_s < self.connect_timeout_s:
            raise SettingError(
                f"images.deadline_s ({self.deadline_s}) is shorter than images.connect_timeout_s "
                f"({self.connect_timeout_s}): raise the deadline or lower the timeout."
            )
        if self.resize_mode not in ("no", "keep_ratio", "center_crop", "border", "keep_ratio_largest"):
            raise SettingError(
                f"images.resize_mode is {self.resize_mode!r}: use no, keep_ratio, center_crop, border or "
                "keep_ratio_largest (img2dataset's names)."
            )
