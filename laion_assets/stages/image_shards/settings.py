"""Settings of the image stage."""

from dataclasses import dataclass

from laion_assets.dataset.image_formats import ENCODE_FORMATS
from laion_assets.dataset.settings.field import check_settings, setting
from laion_assets.errors import SettingError
from laion_assets.http.policy import FetchPolicy

RESIZE_MODES = ("no", "keep_ratio", "center_crop", "border", "keep_ratio_largest")
_FILTERS = ("nearest", "linear", "bilinear", "cubic", "bicubic", "area", "lanczos", "lanczos4")
LAION_ASSETS, IMG2DATASET = "laion_assets", "img2dataset"
"""The engines."""


@dataclass(frozen=True)
class ImageSettings:
    """How images are fetched and resized; defaults are the LAION-400M recipe's unless the help says why not."""

    image_size: int = setting(256, "side of the output", unit="pixels", min=8, max=8_192, changes_bytes=True)
    resize_mode: str = setting("border", "img2dataset's resize mode", choices=RESIZE_MODES, changes_bytes=True)
    resize_only_if_bigger: bool = setting(False, "leave smaller images in their size", changes_bytes=True)
    upscale_interpolation: str = setting(
        "lanczos", "img2dataset's name of the filter", choices=_FILTERS, changes_bytes=True
    )
    downscale_interpolation: str = setting(
        "area", "img2dataset's name of the filter", choices=_FILTERS, changes_bytes=True
    )
    encode_format: str = setting("jpg", "jpg, png or webp", choices=ENCODE_FORMATS, changes_bytes=True)
    encode_quality: int = setting(
        95,
        "JPEG quality 0 to 100, PNG compression 0 to 9, WebP quality 1 to 100, above: lossless",
        min=0,
        max=101,
        changes_bytes=True,
    )
    skip_reencode: bool = setting(
        False, "keep the file of an image that needs no resize, if it has the format", changes_bytes=True
    )
    disable_all_reencoding: bool = setting(False, "keep every file as it came, in any format", changes_bytes=True)
    exact_pixels: bool = setting(
        False,
        "byte for byte img2dataset's pictures, for a fifth more CPU: no large JPEG is decoded at half size or less, "
        "and the filter area is OpenCV's own, which now and then rounds a pixel otherwise",
        changes_bytes=True,
    )
    additional_columns: tuple[str, ...] = setting(
        ("NSFW", "similarity", "LICENSE"), "columns copied into each sample, beside uid", changes_bytes=True
    )
    min_image_size: int = setting(
        4,
        "an image with a shorter side is refused: tracking pixels and spacers",
        unit="pixels",
        min=0,
        max=16_384,
        changes_bytes=True,
    )
    max_aspect_ratio: float = setting(
        128.0,
        "a longer strip is refused: its shorter side would be under 2 of 256 pixels",
        min=1.0,
        max=float("inf"),
        changes_bytes=True,
    )
    max_image_area: float = setting(
        float("inf"),
        "an image of a larger area is refused, beside max_pixels",
        unit="pixels",
        min=16.0,
        max=float("inf"),
        changes_bytes=True,
    )
    extract_exif: bool = setting(True, "write the column exif", changes_bytes=True)
    compute_hash: str = setting(
        "sha256",
        "hash of the fetched file, in a column of its name: md5, sha256, sha512 or none",
        choices=("md5", "sha256", "sha512", "none"),
        changes_bytes=True,
    )
    keep_personal_exif: bool = setting(
        False, "keep every EXIF tag in the column exif, place and device included", changes_bytes=True
    )
    fetch: FetchPolicy = FetchPolicy()
    max_pixels: int = setting(
        100_000_000, "an image whose header declares more is refused", unit="pixels", min=4_096, max=1_000_000_000
    )
    decode_cpu_s: float = setting(
        2.0,
        "CPU time after which the decoder of one image is ended, for up to 20 megapixels; larger images get more in "
        "proportion. A PNG of 20 megapixels takes 0.4 s",
        unit="s",
        min=0.1,
        max=3_600.0,
    )
    refuse_local_failures: bool = setting(
        True,
        "do not commit a shard whose failures come from this machine or its network (resolver, CA certificates, "
        "captive portal, CPU load), judged by unrelated sites that fail at the same time",
    )
    probe_urls: tuple[str, ...] = setting(
        (),
        "URLs of images that always answer, asked when rows fail, to tell a local failure from dead links; empty: URLs "
        "that worked earlier in the run are asked",
    )
    expected_failures: float = setting(
        0.5,
        "share of sites expected to fail, until the dataset's own shards have shown theirs",
        unit="share",
        min=0.01,
        max=0.99,
    )
    local_failure_shards: int = setting(
        3,
        "shards refused for local failures, without one committed in between, after which a run stops",
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
    processes: int = setting(0, "worker processes; 0 means one a core", min=0, max=1_024)
    threads: int = setting(64, "fetching threads a worker process", min=1, max=4_096)
    shards_per_run: int = setting(1_000, "shards one Dagster run covers in a backfill", min=1, max=100_000)

    def __post_init__(self) -> None:
        check_settings(self, "images.")
        largest = min(self.max_pixels, self.max_image_area)
        if self.min_image_size**2 > largest:
            raise SettingError(
                f"images.min_image_size is {self.min_image_size} and the smaller of images.max_pixels and "
                f"images.max_image_area is {largest:g}: no image can meet both. Lower the first or raise the others."
            )
        if self.encode_format == "png" and not 0 <= self.encode_quality <= 9:
            raise SettingError(
                f"images.encode_format is png and images.encode_quality is {self.encode_quality}: for png it is the "
                "compression, from 0 to 9. Set it as well."
            )
        if self.encode_format == "jpg" and self.encode_quality > 100:
            raise SettingError(
                f"images.encode_format is jpg and images.encode_quality is {self.encode_quality}: use 0 to 100."
            )
        if self.disable_all_reencoding and not self.keep_personal_exif:
            raise SettingError(
                "images.disable_all_reencoding keeps files with the place and person that their EXIF names, and "
                "images.keep_personal_exif is false: set it to true, or use images.skip_reencode."
            )
        if self.disable_all_reencoding and self.skip_reencode:
            raise SettingError(
                "images.skip_reencode re-encodes what needs it and images.disable_all_reencoding nothing: set one."
            )
        if self.engine == IMG2DATASET:
            from laion_assets.stages.image_shards.img2dataset.supported_settings import check_supported

            check_supported(self)
        reserved = sorted(_RESERVED_COLUMNS.intersection(self.additional_columns))
        if reserved:
            raise SettingError(
                f"images.additional_columns names {', '.join(reserved)}, which img2dataset writes itself: leave it out."
            )


_RESERVED_COLUMNS = frozenset(
    ("key", "caption", "url", "width", "height", "original_width", "original_height", "status", "error_message", "exif")
).union(("md5", "sha256", "sha512"))
"""What img2dataset's `save_additional_columns` refuses."""
