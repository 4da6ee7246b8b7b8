"""The columns of URLs and captions, guessed from the names and the values of a sample."""

from collections.abc import Sequence
from dataclasses import dataclass

from laion_assets.errors import SourceError
from laion_assets.inspection.csv_dialect import is_url

_URL_NAMES = (
    "url",
    "image_url",
    "img_url",
    "imageurl",
    "image_link",
    "img",
    "image",
    "image_src",
    "src",
    "link",
    "photo_image_url",
    "photo_url",
    "original_url",
    "coco_url",
    "flickr_url",
    "href",
)
"""Usual names of columns of image URLs, the likeliest first."""
_CAPTION_NAMES = (
    "text",
    "caption",
    "alt_text",
    "alt",
    "title",
    "description",
    "prompt",
    "label",
    "captions",
    "txt",
    "sentence",
    "raw_caption",
    "image_description",
    "blip_caption",
)
"""Usual names of columns of captions, the likeliest first."""
MAX_NESTED = 5
"""Most columns of lists and structs that are named."""
_MIN_URL_SHARE = 0.5
_MIN_CAPTION_CHARS = 3.0


@dataclass(frozen=True)
class ColumnSample:
    """A column of the sample: its name, its type in words, and some values as texts."""

    name: str
    type: str
    values: tuple[str, ...]

    @property
    def url_share(self) -> float:
        """Share of the values, without empty ones, that are URLs."""
        filled = [value for value in self.values if value.strip()]
        return sum(map(is_url, filled)) / len(filled) if filled else 0.0

    @property
    def kept_type(self) -> str:
        """The type for `dedup.keep_columns`."""
        if self.type in ("bool",):
            return "bool"
        filled = [value.strip() for value in self.values if value.strip()]
        if self.type.startswith(("int", "uint")) or (filled and all(map(_is_integer, filled))):
            return "int64"
        if self.type.startswith(("float", "double", "halffloat")) or (filled and all(map(_is_number, filled))):
            return "float64"
        return "string"


def rank_url_columns(columns: Sequence[ColumnSample], nested: Sequence[str] = ()) -> list[ColumnSample]:
    """Return the columns of URLs, the likeliest first.

    Raises SourceError naming the columns if there are none, also the `nested` ones with their types.
    """
    found = [column for column in columns if column.url_share >= _MIN_URL_SHARE]
    if not found:
        names = ", ".join(column.name for column in columns)
        unread = f" Columns of lists and structs are not read: {', '.join(nested[:MAX_NESTED])}." if nested else ""
        raise SourceError(
            f"No column holds http or https URLs. The columns are {names or '(none)'}. If one of them does, name it "
            f"with --url-column.{unread}"
        )
    return sorted(found, key=lambda column: (_rank(column.name, _URL_NAMES), -column.url_share))


def rank_caption_columns(columns: Sequence[ColumnSample], url: ColumnSample) -> list[ColumnSample]:
    """Return the columns that may be captions, the likeliest first. Columns of numbers and of URLs are left out."""
    found = [
        column
        for column in columns
        if column is not url and column.url_share < _MIN_URL_SHARE and column.kept_type == "string"
    ]
    named = [column for column in found if _rank(column.name, _CAPTION_NAMES) < len(_CAPTION_NAMES)]
    long = [column for column in found if column not in named and _mean_chars(column) >= _MIN_CAPTION_CHARS]
    words = [column for column in long if sum(" " in value.strip() for value in column.values) * 2 > len(column.values)]
    ranked = sorted(named, key=lambda column: _rank(column.name, _CAPTION_NAMES))
    return ranked + sorted(words, key=lambda column: -_mean_chars(column))


def is_well_known(column: ColumnSample) -> bool:
    """Whether the name of a column says that it holds URLs or captions."""
    return column.name.casefold() in (*_URL_NAMES, *_CAPTION_NAMES)


def find_column(columns: Sequence[ColumnSample], name: str, option: str) -> ColumnSample:
    """Return the column of that name, in any letter case. Raises SourceError naming the columns."""
    exact = [column for column in columns if column.name == name]
    found = exact or [column for column in columns if column.name.casefold() == name.casefold()]
    if len(found) != 1:
        raise SourceError(
            f"{'No column' if not found else 'Several columns'} named {name!r} ({option}). The columns are "
            f"{', '.join(column.name for column in columns)}."
        )
    return found[0]


def _rank(name: str, names: Sequence[str]) -> int:
    lowered = name.casefold()
    return names.index(lowered) if lowered in names else len(names)


def _mean_chars(column: ColumnSample) -> float:
    return sum(map(len, column.values)) / max(len(column.values), 1)


def _is_integer(value: str) -> bool:
    return value.removeprefix("-").isdecimal() and value.isascii()


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
