"""Settings `dedup.where`: row filters by bounds and lists. Each filter is a counted reason; by default none is set."""

import os
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from laion_assets.dataset.settings.field import byte_settings, check_settings, setting
from laion_assets.errors import SettingError

_MAX_LIST_BYTES = 64 << 20
_PAIRS = (
    ("min_width", "max_width"),
    ("min_height", "max_height"),
    ("min_area", "max_area"),
    ("min_similarity", "max_similarity"),
    ("min_caption_chars", "max_caption_chars"),
)


@dataclass(frozen=True)
class RowFilter:
    """The row filters of a dataset, applied after normalisation and before deduplication.

    Bounds are inclusive. As in SQL's WHERE, a null fails a bound: a row of unknown size or similarity is filtered if
    there is a bound on it. Exceptions: a null caption has the length 0; a null tag or licence is kept if the list has
    the empty string; a URL without a web host is in no domain, so it is neither blocked nor allowed. Width and height
    are the stored ones, after the correction by `dedup.width_height_swapped`.

    Raises SettingError for bounds that no row can meet.
    """

    min_width: int | None = setting(
        None, "minimum width of the image; rows below are filtered", unit="px", min=0, max=1_000_000, changes_bytes=True
    )
    max_width: int | None = setting(
        None, "maximum width of the image; rows above are filtered", unit="px", min=1, max=1_000_000, changes_bytes=True
    )
    min_height: int | None = setting(
        None,
        "minimum height of the image; rows below are filtered",
        unit="px",
        min=0,
        max=1_000_000,
        changes_bytes=True,
    )
    max_height: int | None = setting(
        None,
        "maximum height of the image; rows above are filtered",
        unit="px",
        min=1,
        max=1_000_000,
        changes_bytes=True,
    )
    min_area: int | None = setting(
        None,
        "minimum width x height of the image; rows below are filtered",
        unit="px",
        min=0,
        max=1_000_000_000_000,
        changes_bytes=True,
    )
    max_area: int | None = setting(
        None,
        "maximum width x height of the image; rows above are filtered",
        unit="px",
        min=1,
        max=1_000_000_000_000,
        changes_bytes=True,
    )
    max_aspect: float | None = setting(
        None,
        "maximum ratio of the longer to the shorter side of the image; rows above are filtered",
        min=1.0,
        max=1_000_000.0,
        changes_bytes=True,
    )
    min_similarity: float | None = setting(
        None, "minimum CLIP similarity; rows below are filtered", min=-1.0, max=1.0, changes_bytes=True
    )
    max_similarity: float | None = setting(
        None, "maximum CLIP similarity; rows above are filtered", min=-1.0, max=1.0, changes_bytes=True
    )
    nsfw: tuple[str, ...] = setting(
        (),
        "NSFW tags to keep, in any letter case; an empty string keeps rows without a tag; an empty list keeps all",
        changes_bytes=True,
    )
    licenses: tuple[str, ...] = setting(
        (),
        "licences to keep, in any letter case; an empty string keeps rows without a licence; an empty list keeps all",
        changes_bytes=True,
    )
    min_caption_chars: int | None = setting(
        None,
        "minimum length of the caption; rows below are filtered",
        unit="characters",
        min=0,
        max=1_000_000,
        changes_bytes=True,
    )
    max_caption_chars: int | None = setting(
        None,
        "maximum length of the caption; rows above are filtered",
        unit="characters",
        min=0,
        max=1_000_000,
        changes_bytes=True,
    )
    allowed_domains: tuple[str, ...] = setting(
        (),
        "keep only URLs of these domains and their subdomains; @FILE or @URL is a list with one domain per line",
        changes_bytes=True,
    )
    blocked_domains: tuple[str, ...] = setting(
        (),
        "drop URLs of these domains and their subdomains; @FILE or @URL is a list with one domain per line",
        changes_bytes=True,
    )

    def __post_init__(self) -> None:
        check_settings(self, "dedup.where.")
        for low, high in _PAIRS:
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                raise SettingError(
                    f"dedup.where.{low} is {least} and dedup.where.{high} is {most}: no row can meet both. "
                    "Raise the second or lower the first."
                )
        self._check_areas()
        self._check_domains()

    @cached_property
    def is_set(self) -> bool:
        """Whether any filter is set."""
        return any(getattr(self, field.name) not in (None, ()) for field in fields(self))

    @cached_property
    def allowed(self) -> frozenset[str]:
        """The normalised allowed domains, including those of lists in files."""
        return _read_domains(self.allowed_domains, "allowed_domains")

    @cached_property
    def blocked(self) -> frozenset[str]:
        """The normalised blocked domains, including those of lists in files."""
        return _read_domains(self.blocked_domains, "blocked_domains")

    def load_lists(self) -> "RowFilter":
        """Return the filter with its lists read from files, so that workers on other machines do not need the files."""
        if not any(domain.startswith("@") for domain in (*self.allowed_domains, *self.blocked_domains)):
            return self
        return replace(self, allowed_domains=tuple(sorted(self.allowed)), blocked_domains=tuple(sorted(self.blocked)))

    def values(self) -> dict[str, Any]:
        """Return the values of the filters that are set, for the settings digest. A list counts by its content."""
        listed = {"allowed_domains": sorted(self.allowed), "blocked_domains": sorted(self.blocked)}
        return {name: value for name, value in {**byte_settings(self), **listed}.items() if value not in (None, (), [])}

    def _check_areas(self) -> None:
        if self.max_area is not None and (self.min_width or 0) * (self.min_height or 0) > self.max_area:
            raise SettingError(
                f"dedup.where.max_area is {self.max_area} and min_width x min_height is "
                f"{(self.min_width or 0) * (self.min_height or 0)}: no row can meet both. Raise max_area."
            )
        if self.min_area is not None and self.max_width is not None and self.max_height is not None:
            largest = self.max_width * self.max_height
            if largest < self.min_area:
                raise SettingError(
                    f"dedup.where.min_area is {self.min_area} and max_width x max_height is {largest}: no row can "
                    "meet both. Lower min_area."
                )

    def _check_domains(self) -> None:
        """Check the domains in the settings. Lists in files are read later: their contradictions show in counts."""
        blocked = frozenset(
            normalise_domain(each, "blocked_domains") for each in self.blocked_domains if not each.startswith("@")
        )
        for domain in [each for each in self.allowed_domains if not each.startswith("@")]:
            above = find_covering_domain(normalise_domain(domain, "allowed_domains"), blocked)
            if above is not None:
                raise SettingError(
                    f"dedup.where allows {domain} and blocks {above}: no row can meet both. Remove one of them."
                )


def find_covering_domain(host: str, domains: frozenset[str]) -> str | None:
    """Return the domain in the set that is the host or a parent of it: `example.org` for `a.example.org`."""
    rest = host
    while rest:
        if rest in domains:
            return rest
        rest = rest.partition(".")[2]
    return None


def normalise_host(host: str) -> str:
    """Normalise a host: lower case, no final dot, non-ASCII names in punycode (IDNA 2003)."""
    host = host.lower().removesuffix(".")
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return host


def normalise_domain(text: str, setting_name: str) -> str:
    """Normalise a domain. Raises SettingError for an invalid domain, such as a URL."""
    domain = normalise_host(text.strip().removeprefix("*.").removeprefix("."))
    if not domain or any(sign in domain for sign in " /:@?#*|,") or ".." in domain:
        raise SettingError(
            f"Invalid domain {text!r} in dedup.where.{setting_name}. Expected a domain such as example.org."
        )
    return domain


def _read_domains(listed: tuple[str, ...], setting_name: str) -> frozenset[str]:
    found: set[str] = set()
    for each in listed:
        lines = _read_lines(each[1:], setting_name) if each.startswith("@") else [each]
        found.update(normalise_domain(line, setting_name) for line in lines)
    if listed and not found:
        raise SettingError(f"The lists in dedup.where.{setting_name} have no domains: {', '.join(listed)}.")
    return frozenset(found)


def _read_lines(url: str, setting_name: str) -> list[str]:
    """Read the lines of a list, UTF-8 with or without a byte order mark, without comments. Raises SettingError."""
    import fsspec

    from laion_assets.http.sources.source_policy import SourcePolicy
    from laion_assets.http.sources.sync_client import read_url
    from laion_assets.http.urls.places import is_http, refuse_http_file_system

    refuse_http_file_system("" if is_http(url) else url)
    if os.path.exists(url) and not os.path.isfile(url):  # a named pipe would have no writer
        raise SettingError(f"{url} in dedup.where.{setting_name} is not a file.")
    try:
        if is_http(url):
            content = read_url(url, SourcePolicy(operator_urls=(url,)), _MAX_LIST_BYTES)
        else:
            with fsspec.open(url, "rb") as file:
                content = file.read(_MAX_LIST_BYTES + 1)
        text = content.decode("utf-8-sig")
    except Exception as error:
        raise SettingError(f"Cannot read {url} in dedup.where.{setting_name}: {error}.") from error
    if len(content) > _MAX_LIST_BYTES:
        raise SettingError(f"{url} in dedup.where.{setting_name} has more than {_MAX_LIST_BYTES:,} bytes. Shorten it.")
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    return [line for line in lines if line]
