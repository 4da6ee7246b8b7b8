"""`where`: which sound rows a dataset keeps, by bounds and lists. Each is a counted reason; none is set at first."""

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
    """A dataset's row filters. Filtering comes right after normalisation, so before deduplication.

    Bounds are inclusive. As in SQL's WHERE, a bound does not hold for a null: a row of unknown size or similarity is
    filtered where there is a bound on it. Exceptions: a null caption has the length 0; a null tag or licence is kept if
    the list has the empty string; a URL without a web host is in no domain, so it is never blocked and never allowed.
    Width and height are those that are stored, so the true ones where `dedup.width_height_swapped` puts them right.

    Raises SettingError for bounds that no row can meet.
    """

    min_width: int | None = setting(
        None, "narrower pictures are filtered", unit="px", min=0, max=1_000_000, changes_bytes=True
    )
    max_width: int | None = setting(
        None, "wider pictures are filtered", unit="px", min=1, max=1_000_000, changes_bytes=True
    )
    min_height: int | None = setting(
        None, "lower pictures are filtered", unit="px", min=0, max=1_000_000, changes_bytes=True
    )
    max_height: int | None = setting(
        None, "higher pictures are filtered", unit="px", min=1, max=1_000_000, changes_bytes=True
    )
    min_area: int | None = setting(
        None,
        "pictures of less width x height are filtered",
        unit="px",
        min=0,
        max=1_000_000_000_000,
        changes_bytes=True,
    )
    max_area: int | None = setting(
        None,
        "pictures of more width x height are filtered",
        unit="px",
        min=1,
        max=1_000_000_000_000,
        changes_bytes=True,
    )
    max_aspect: float | None = setting(
        None,
        "pictures whose longer side is more than this many times the shorter are filtered",
        min=1.0,
        max=1_000_000.0,
        changes_bytes=True,
    )
    min_similarity: float | None = setting(
        None, "rows of lower similarity are filtered", min=-1.0, max=1.0, changes_bytes=True
    )
    max_similarity: float | None = setting(
        None, "rows of higher similarity are filtered", min=-1.0, max=1.0, changes_bytes=True
    )
    nsfw: tuple[str, ...] = setting(
        (),
        "NSFW tags to keep, in any letter case, an empty string for rows without; none given keeps all",
        changes_bytes=True,
    )
    licenses: tuple[str, ...] = setting(
        (),
        "licences to keep, in any letter case, an empty string for rows without; none given keeps all",
        changes_bytes=True,
    )
    min_caption_chars: int | None = setting(
        None, "rows of shorter captions are filtered", unit="characters", min=0, max=1_000_000, changes_bytes=True
    )
    max_caption_chars: int | None = setting(
        None, "rows of longer captions are filtered", unit="characters", min=0, max=1_000_000, changes_bytes=True
    )
    allowed_domains: tuple[str, ...] = setting(
        (), "only these domains and what is below them; @FILE or @URL names a list, one a line", changes_bytes=True
    )
    blocked_domains: tuple[str, ...] = setting(
        (), "not these domains nor what is below them; @FILE or @URL names a list, one a line", changes_bytes=True
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
        self._refuse_impossible_areas()
        self._refuse_impossible_domains()

    @cached_property
    def is_set(self) -> bool:
        """Whether there is any filter at all."""
        return any(getattr(self, field.name) not in (None, ()) for field in fields(self))

    @cached_property
    def allowed(self) -> frozenset[str]:
        """The allowed domains as they are compared: lower case, punycode, lists in files read."""
        return _domains(self.allowed_domains, "allowed_domains")

    @cached_property
    def blocked(self) -> frozenset[str]:
        """The blocked domains as they are compared."""
        return _domains(self.blocked_domains, "blocked_domains")

    def loaded(self) -> "RowFilter":
        """The same filter with the lists in files read, so that workers on other machines need no such file."""
        if not any(domain.startswith("@") for domain in (*self.allowed_domains, *self.blocked_domains)):
            return self
        return replace(self, allowed_domains=tuple(sorted(self.allowed)), blocked_domains=tuple(sorted(self.blocked)))

    def values(self) -> dict[str, Any]:
        """The filters that are set, for the settings' digest: by content, whatever file a list came from."""
        listed = {"allowed_domains": sorted(self.allowed), "blocked_domains": sorted(self.blocked)}
        return {name: value for name, value in {**byte_settings(self), **listed}.items() if value not in (None, (), [])}

    def _refuse_impossible_areas(self) -> None:
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

    def _refuse_impossible_domains(self) -> None:
        """Lists in files are read when they are needed, so what they contradict shows in the counts."""
        blocked = frozenset(
            normal_domain(each, "blocked_domains") for each in self.blocked_domains if not each.startswith("@")
        )
        for domain in [each for each in self.allowed_domains if not each.startswith("@")]:
            above = covering(normal_domain(domain, "allowed_domains"), blocked)
            if above is not None:
                raise SettingError(
                    f"dedup.where allows {domain} and blocks {above}: no row can meet both. Remove one of them."
                )


def covering(host: str, domains: frozenset[str]) -> str | None:
    """The domain of the set that a host is or lies below, by labels: `a.example.org` is below `example.org`."""
    rest = host
    while rest:
        if rest in domains:
            return rest
        rest = rest.partition(".")[2]
    return None


def normal_host(host: str) -> str:
    """A host as it is compared: lower case, without the last dot, names of other alphabets in punycode (IDNA 2003)."""
    host = host.lower().removesuffix(".")
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return host


def normal_domain(text: str, setting_name: str) -> str:
    """A domain of a list as it is compared. Raises SettingError for what is no domain, such as a URL."""
    domain = normal_host(text.strip().removeprefix("*.").removeprefix("."))
    if not domain or any(sign in domain for sign in " /:@?#*|,") or ".." in domain:
        raise SettingError(f"dedup.where.{setting_name} has {text!r}: write a domain, like example.org.")
    return domain


def _domains(listed: tuple[str, ...], setting_name: str) -> frozenset[str]:
    found: set[str] = set()
    for each in listed:
        lines = _lines(each[1:], setting_name) if each.startswith("@") else [each]
        found.update(normal_domain(line, setting_name) for line in lines)
    if listed and not found:
        raise SettingError(f"dedup.where.{setting_name} names lists with no domain in them: {', '.join(listed)}.")
    return frozenset(found)


def _lines(url: str, setting_name: str) -> list[str]:
    """The lines of a list, without comments; UTF-8 with or without a byte order mark. Raises SettingError."""
    import fsspec

    from laion_assets.http.sources.source_policy import SourcePolicy
    from laion_assets.http.sources.sync_client import read_url
    from laion_assets.http.urls.places import is_http, refuse_http_file_system

    refuse_http_file_system("" if is_http(url) else url)
    if os.path.exists(url) and not os.path.isfile(url):  # a named pipe would have no writer
        raise SettingError(f"dedup.where.{setting_name} names {url}, which is not a file.")
    try:
        if is_http(url):
            content = read_url(url, SourcePolicy(operator_urls=(url,)), _MAX_LIST_BYTES)
        else:
            with fsspec.open(url, "rb") as file:
                content = file.read(_MAX_LIST_BYTES + 1)
        text = content.decode("utf-8-sig")
    except Exception as error:
        raise SettingError(f"dedup.where.{setting_name} names {url}, which cannot be read: {error}.") from error
    if len(content) > _MAX_LIST_BYTES:
        raise SettingError(
            f"dedup.where.{setting_name} names {url}, which has more than {_MAX_LIST_BYTES:,} bytes. Shorten it."
        )
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    return [line for line in lines if line]
