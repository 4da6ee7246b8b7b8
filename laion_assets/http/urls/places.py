"""URLs in the settings: http(s) URLs are fetched by this package and never through fsspec."""

from laion_assets.errors import SettingError

SCHEMES = ("http://", "https://")


def is_http(place: str) -> bool:
    """Return whether a URL or path of the settings is fetched over http or https."""
    return place.lower().startswith(SCHEMES)


def refuse_http_file_system(place: str) -> None:
    """Raise SettingError for a URL that fsspec would fetch over http(s), such as `simplecache::https://...`.

    fsspec's http client does not check addresses, so a redirect could lead into the private network.
    """
    if any(link.lower().startswith((*SCHEMES, "http:", "https:")) for link in place.split("::")):
        raise SettingError(
            f"{place}: http and https URLs are not fetched through fsspec. Give the URL without a chain (::) where the "
            "setting accepts a URL. Otherwise use a folder or an object store."
        )
