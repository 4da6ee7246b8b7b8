"""URLs of the settings: which of them http/ fetches, and that fsspec fetches none over http(s) behind its back."""

from laion_assets.errors import SettingError

SCHEMES = ("http://", "https://")


def is_http(place: str) -> bool:
    """Whether a place of the settings (a URL, a path) is fetched over http or https."""
    return place.lower().startswith(SCHEMES)


def refuse_http_file_system(place: str) -> None:
    """Raise SettingError for a place that fsspec would reach over http(s), such as `simplecache::https://...`.

    fsspec's own http client checks no address, so a redirect could lead into the private network.
    """
    if any(link.lower().startswith((*SCHEMES, "http:", "https:")) for link in place.split("::")):
        raise SettingError(
            f"{place}: http and https are not reached through fsspec. Where a URL may be given, give it without a "
            "chain (::); otherwise use a folder or an object store."
        )
