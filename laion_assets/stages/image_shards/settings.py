"""Settings of the image stage."""

from dataclasses import dataclass

from laion_assets.dataset.fetch_policy import FetchPolicy
from laion_assets.dataset.image_formats import ENCODE_FORMATS
from laion_assets.dataset.settings.field import check_settings, setting
from laion_assets.errors import SettingError

RESIZE_MODES = ("no", "keep_ratio", "center_crop", "border", "keep_ratio_largest")
_FILTERS = ("nearest", "linear", "bilinear", "cubic", "bicubic", "area", "lanczos", "lanczos4")
LAION_ASSETS, IMG2DATASET = "laion_assets", "img2dataset"
"""The engines."""


@dataclass(frozen=True)
class ImageSettings:
    """How images are fetched and resized. Defaults are the LAION-400M recipe's unless the help states a reason."""

    image_size: int = setting(256, "side of the output image", unit="pixels", min=8, max=8_192, changes_bytes=True)
    resize_mode: str = setting("border", "img2dataset's resize mode", choices=RESIZE_MODES, changes_bytes=True)
    resize_only_if_bigger: bool = setting(False, "do not enlarge smaller images", changes_bytes=True)
    upscale_interpolation: str = setting(
        "lanczos", "filter for enlarging, by img2dataset's name", choices=_FILTERS, changes_bytes=True
    )
    downscale_interpolation: str = setting(
        "area", "filter for shrinking, by img2dataset's name", choices=_FILTERS, changes_bytes=True
    )
    encode_format: str = setting("jpg", "output format: jpg, png or webp", choices=ENCODE_FORMATS, changes_bytes=True)
    encode_quality: int = setting(
        95,
        "JPEG quality 0 to 100, PNG compression 0 to 9, or WebP quality 1 to 100 (101: lossless)",
        min=0,
        max=101,
        changes_bytes=True,
    )
    skip_reencode: bool = setting(
        False, "keep the file of an image that needs no resize and has the output format already", changes_bytes=True
    )
    disable_all_reencoding: bool = setting(
        False, "keep every fetched file unchanged, in any format", changes_bytes=True
    )
    exact_pixels: bool = setting(
        False,
        "same bytes as img2dataset's images, for a fifth more CPU: large JPEGs are not decoded at half size or less, "
        "and the filter area is OpenCV's own, which rounds a few pixels differently",
        changes_bytes=True,
    )
    additional_columns: tuple[str, ...] = setting(
        ("NSFW", "similarity", "LICENSE"),
        "columns of dedup_parquet copied into each sample, in addition to uid",
        changes_bytes=True,
    )
    min_image_size: int = setting(
        4,
        "minimum length of the shorter side; excludes tracking pixels and spacers",
        unit="pixels",
        min=0,
        max=16_384,
        changes_bytes=True,
    )
    max_aspect_ratio: float = setting(
        128.0,
        "maximum ratio of the longer to the shorter side; above it the shorter side would be under 2 of 256 pixels",
        min=1.0,
        max=float("inf"),
        changes_bytes=True,
    )
    max_image_area: float = setting(
        float("inf"),
        "maximum area of an original image, in addition to max_pixels",
        unit="pixels",
        min=16.0,
        max=float("inf"),
        changes_bytes=True,
    )
    extract_exif: bool = setting(True, "write the column exif", changes_bytes=True)
    compute_hash: str = setting(
        "sha256",
        "hash of the fetched file, in a column of the same name: md5, sha256, sha512 or none",
        choices=("md5", "sha256", "sha512", "none"),
        changes_bytes=True,
    )
    keep_personal_exif: bool = setting(
        False, "keep every EXIF tag in the column exif, including location and device", changes_bytes=True
    )
    fetch: FetchPolicy = FetchPolicy()
    max_pixels: int = setting(
        100_000_000,
        "maximum area of an original image, checked in its header before decoding",
        unit="pixels",
        min=4_096,
        max=1_000_000_000,
    )
    decode_cpu_s: float = setting(
        2.0,
        "CPU time limit for decoding one image of up to 20 megapixels; proportionally more for larger images. A PNG of "
        "20 megapixels takes 0.4 s",
        unit="s",
        min=0.1,
        max=3_600.0,
    )
    refuse_local_failures: bool = setting(
        True,
        "do not commit a shard whose failures come from this machine or its network (DNS resolver, CA certificates, "
        "captive portal, CPU load). The sign is that unrelated sites fail at the same time",
    )
    probe_urls: tuple[str, ...] = setting(
        (),
        "URLs of images that are always available. They are fetched when rows fail, to distinguish a local failure "
        "from dead links. Empty: URLs that worked earlier in the run are used",
    )
    expected_failures: float = setting(
        0.5,
        "share of sites expected to fail, until it has been measured on the dataset's own shards",
        unit="share",
        min=0.01,
        max=0.99,
    )
    local_failure_shards: int = setting(
        3,
        "consecutive shards with local failures after which a run stops",
        min=1,
        max=100_000,
    )
    engine: str = setting(
        LAION_ASSETS,
        "program that fetches and resizes: laion_assets, or img2dataset's own Downloader behind the same address "
        "guard, but without the decoder's sandbox. docs/engines.md compares them",
        choices=(LAION_ASSETS, IMG2DATASET),
        changes_bytes=True,
        in_digest_at_default=False,
    )
    distributor: str = setting(
        "pool",
        "where shards are built: pool (processes on this machine) or spark (the cluster of spark.master)",
        choices=("pool", "spark"),
    )
    processes: int = setting(0, "worker processes; 0: one per core", min=0, max=1_024)
    threads: int = setting(64, "fetch threads per worker process", min=1, max=4_096)
    shards_per_run: int = setting(1_000, "shards per Dagster run in a backfill", min=1, max=100_000)

    def __post_init__(self) -> None:
        check_settings(self, "images.")
        largest = min(self.max_pixels, self.max_image_area)
        if self.min_image_size**2 > largest:
            raise SettingError(
                f"images.min_image_size is {self.min_image_size} and the smaller of images.max_pixels and "
                f"images.max_image_area is {largest:g}. No image meets both: lower the first or raise the others."
            )
        if self.encode_format == "png" and not 0 <= self.encode_quality <= 9:
            raise SettingError(
                f"images.encode_format is png and images.encode_quality is {self.encode_quality}. For png it is the "
                "compression level: set it to 0 to 9."
            )
        if self.encode_format == "jpg" and self.encode_quality > 100:
            raise SettingError(
                f"images.encode_format is jpg and images.encode_quality is {self.encode_quality}: set it to 0 to 100."
            )
        if self.disable_all_reencoding and not self.keep_personal_exif:
            raise SettingError(
                "images.disable_all_reencoding keeps files with all their EXIF, personal tags included, but "
                "images.keep_personal_exif is false. Set it to true, or use images.skip_reencode instead."
            )
        if self.disable_all_reencoding and self.skip_reencode:
            raise SettingError(
                "images.skip_reencode and images.disable_all_reencoding exclude each other: the first re-encodes the "
                "images that need it, the second none. Set only one."
            )
        if self.engine == IMG2DATASET:
            from laion_assets.stages.image_shards.img2dataset.supported_settings import check_supported

            check_supported(self)
        reserved = sorted(_RESERVED_COLUMNS.intersection(self.additional_columns))
        if reserved:
            raise SettingError(
                f"images.additional_columns contains {', '.join(reserved)}, which img2dataset writes itself. Remove it."
            )


_RESERVED_COLUMNS = frozenset(
    ("key", "caption", "url", "width", "height", "original_width", "original_height", "status", "error_message", "exif")
).union(("md5", "sha256", "sha512"))
"""Names that img2dataset's `save_additional_columns` does not accept."""
