"""Settings of the image stage."""

from dataclasses import dataclass

from laion_assets.dataset.image_formats import ENCODE_FORMATS
from laion_assets.dataset.settings.checks import header_line, token
from laion_assets.dataset.settings.field import check_settings, setting
from laion_assets.errors import SettingError

RESIZE_MODES = ("no", "keep_ratio", "center_crop", "border", "keep_ratio_largest")
_FILTERS = ("nearest", "linear", "bilinear", "cubic", "bicubic", "area", "lanczos", "lanczos4")


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
    connect_timeout_s: float = setting(
        5.0, "longest wait for a connection, and for a byte on it", unit="s", min=0.1, max=600.0
    )
    deadline_s: float = setting(
        20.0, "longest time one URL may take, redirects and body included", unit="s", min=0.1, max=3_600.0
    )
    max_body_bytes: int = setting(
        20_000_000, "a larger body is refused while it is read", unit="bytes", min=10_000, max=2_000_000_000
    )
    max_bytes_in_flight: int = setting(
        256_000_000,
        "memory for all bodies over 512 KiB that a worker process holds at once; further ones wait their turn",
        unit="bytes",
        min=20_000,
        max=1_000_000_000_000,
    )
    min_bytes_per_s: int = setting(
        1_000,
        "an answer that brings less on average, 5 s after its first byte, is given up (`deadline`); 0: no least",
        min=0,
        max=1_000_000,
    )
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
    max_redirects: int = setting(10, "redirects followed for one URL, as many as urllib follows", min=0, max=50)
    retries: int = setting(1, "further tries after a fault that may pass (reset, short body, DNS, 5xx)", min=0, max=10)
    requests_per_host: int = setting(
        6,
        "parallel requests of a worker process to one host, as many as a browser's; further ones wait",
        min=1,
        max=1_000,
    )
    requests_per_address: int = setting(
        24,
        "parallel requests of a worker process to one address, whatever its hosts are called; further ones wait",
        min=1,
        max=10_000,
    )
    max_retry_after_s: float = setting(
        30.0,
        "a host whose Retry-After is longer is not waited for: its URLs end as `host_busy`",
        unit="s",
        min=0.0,
        max=86_400.0,
    )
    host_wait_s: float = setting(
        240.0,
        "longest time that a URL waits for its host's other requests and rests (then `host_busy`) and for memory, "
        "beside deadline_s; 64 threads at one host of 6 slow requests wait for 213 s at most",
        unit="s",
        min=0.1,
        max=86_400.0,
    )
    idle_connections: int = setting(
        128, "connections that a worker process keeps open for a host's next request; 0 closes each", min=0, max=10_000
    )
    allowed_ports: tuple[int, ...] = setting(
        (80, 443), "ports a URL may name; the sites of `resolve` are exempt", min=1, max=65_535, non_empty=True
    )
    user_agent: str = setting(
        "laion-assets/0.1 (+https://github.com/laion-assets/laion-assets)",
        "User-Agent header: honest, with a contact",
        check=header_line,
    )
    opt_out_directives: tuple[str, ...] = setting(
        ("noai", "noimageai", "noindex", "noimageindex"),
        "X-Robots-Tag directives that refuse us (img2dataset's); TDM-Reservation: 1 always does",
        check=token,
    )
    opt_out_tokens: tuple[str, ...] = setting(
        ("laion-assets", "img2dataset"), "bot names whose scoped X-Robots-Tag directives mean us", check=token
    )
    opt_out_usages: tuple[str, ...] = setting(
        ("train-ai", "train-genai"),
        "categories of the AIPREF header Content-Usage that refuse us with =n; train-genai is an earlier draft's",
        check=token,
    )
    robots_txt: bool = setting(
        False,
        "fetch each host's robots.txt first and honour it (RFC 9309). Off, as in img2dataset: rows come from millions "
        "of hosts, most asked for once, so it nearly doubles the requests and the time. On where that is worth it",
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
        "pool",
        "what makes the shards: pool (processes of this machine) or spark (metadata.master)",
        choices=("pool", "spark"),
    )
    processes: int = setting(0, "worker processes; 0 means one a core", min=0, max=1_024)
    threads: int = setting(64, "fetching threads a worker process", min=1, max=4_096)
    shards_per_run: int = setting(1_000, "shards one Dagster run covers in a backfill", min=1, max=100_000)

    def __post_init__(self) -> None:
        check_settings(self, "images.")
        if self.deadline_s < self.connect_timeout_s:
            raise SettingError(
                f"images.deadline_s ({self.deadline_s}) is shorter than images.connect_timeout_s "
                f"({self.connect_timeout_s}): raise the deadline or lower the timeout."
            )
        if self.max_bytes_in_flight < 2 * self.max_body_bytes:
            raise SettingError(
                f"images.max_bytes_in_flight ({self.max_bytes_in_flight}) must be at least twice images.max_body_bytes "
                f"({self.max_body_bytes}): raise the first to {2 * self.max_body_bytes}, or lower the second."
            )
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
        reserved = sorted(_RESERVED_COLUMNS.intersection(self.additional_columns))
        if reserved:
            raise SettingError(
                f"images.additional_columns names {', '.join(reserved)}, which img2dataset writes itself: leave it out."
            )


_RESERVED_COLUMNS = frozenset(
    ("key", "caption", "url", "width", "height", "original_width", "original_height", "status", "error_message", "exif")
).union(("md5", "sha256", "sha512"))
"""What img2dataset's `save_additional_columns` refuses."""
