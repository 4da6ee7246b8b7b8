"""Conversion of strings to typed columns: normalise a value, set it to null with a note, or quarantine its row.

Vector code handles ordinary values. All other values go through a scalar function, which defines the rule.
"""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laion_assets.stages.dedup_parquet.rows.column_bytes import ColumnBytes
from laion_assets.stages.dedup_parquet.settings import DedupSettings
from laion_assets.tables.columns import WANTED_COLUMNS
from laion_assets.tables.row_reasons import Note, Reason

MAX_SIDE_PX = 1_000_000
"""Maximum HEIGHT and WIDTH. A larger value is not that of an image, and becomes null."""
MAX_LABEL_CHARS = 1_000
"""Maximum length of LICENSE and NSFW. A longer value becomes null."""

_GOOD_URL = (
    r"(?i)\Ahttps?://(?:[^/?#@:\[\]\\\x00-\x20\x7f-\x{9f}]+@)?[^/?#@:\[\]\\\x00-\x20\x7f-\x{9f}]+(?::[0-9]+)?"
    r"(?:[/?#][^\x00-\x20\x7f-\x{9f}]*)?\z"
)
_GOOD_HOST = r"(?i)\Ahttps?://(?:[^/?#@:\[\]\\]+@)?[^/?#@:\[\]\\]+(?::[0-9]+)?(?:[/?#]|\z)"
"""The same rule for a URL of visible ASCII characters, up to the end of the host."""
_SPACE, _DELETE = 0x20, 0x7F
_SURE_DIGITS = 18
"""A number of so many digits always fits into an int64."""
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_WEB_HOST = re.compile(r"(?i)https?://(?:[^/?#]*@)?(?:\[[0-9a-f:.%]+\]|[^/?#@:\[\]\\]+)(?::[^/?#]*)?(?:[/?#]|\Z)")
_URL_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_ODD_CAPTION = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x{9f}\x{202a}-\x{202e}\x{2066}-\x{2069}]"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_ASCII_SPACE = " \t\n\r\f\v"
_BIDI = re.compile(r"[\u202a-\u202e\u2066-\u2069]")
_WHOLE = re.compile(r"([+-]?[0-9]{1,30})(?:\.0*)?")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


@dataclass
class Typed:
    """The columns of n rows by name, `notes` (n,) int32, and the reasons of rows that must be quarantined, by row."""

    columns: dict[str, pa.Array]
    notes: np.ndarray
    reasons: dict[int, Reason]


def normalise(tokens: dict[str, pa.Array], rows: int, settings: DedupSettings) -> Typed:
    """Convert strings by column name (valid UTF-8, never null) to typed columns. A missing column is empty.

    With `width_height_swapped` the source's HEIGHT is stored as WIDTH and vice versa. Notes name the stored column.
    """
    empty = pa.array([""] * rows, pa.string())
    notes = np.zeros(rows, np.int32)
    reasons: dict[int, Reason] = {}
    column = {name: tokens.get(name, empty) for name in WANTED_COLUMNS}
    if settings.width_height_swapped:
        column["HEIGHT"], column["WIDTH"] = column["WIDTH"], column["HEIGHT"]
    return Typed(
        {
            "SAMPLE_ID": _parse_whole_numbers(
                column["SAMPLE_ID"], "SAMPLE_ID", -(1 << 63), (1 << 63) - 1, pa.int64(), notes
            ),
            "URL": _normalise_urls(column["URL"], settings, notes, reasons),
            "TEXT": _normalise_captions(column["TEXT"], settings, notes, reasons),
            "HEIGHT": _parse_whole_numbers(column["HEIGHT"], "HEIGHT", 1, MAX_SIDE_PX, pa.int32(), notes),
            "WIDTH": _parse_whole_numbers(column["WIDTH"], "WIDTH", 1, MAX_SIDE_PX, pa.int32(), notes),
            "LICENSE": _normalise_labels(column["LICENSE"], Note.LICENSE_INVALID, notes),
            "NSFW": _normalise_labels(column["NSFW"], Note.NSFW_INVALID, notes),
            "similarity": _parse_similarities(column["similarity"], notes),
        },
        notes,
        reasons,
    )


def find_url_fault(url: str, max_chars: int) -> Reason | None:
    """Return the reason why a normalised URL quarantines its row, or None.

    Schemes other than http and https pass: `image_shards` rejects and counts them.
    """
    if not url:
        return Reason.URL_MISSING
    if _URL_CONTROL.search(url):
        return Reason.URL_CONTROL_CHARACTER
    if len(url) > max_chars:
        return Reason.URL_TOO_LONG
    scheme = _SCHEME.match(url)
    if scheme is None or scheme.end() == len(url):
        return Reason.URL_WITHOUT_SCHEME
    if scheme.group().lower() in ("http:", "https:") and not _WEB_HOST.match(url):
        return Reason.URL_WITHOUT_HOST
    return None


def normalise_caption(caption: str) -> tuple[str, Note]:
    """Normalise a caption: control characters become spaces, bidirectional controls are removed, line ends stay.

    Bidirectional embeddings, overrides and isolates (U+202A to U+202E, U+2066 to U+2069) reorder the displayed text and
    are removed. The marks U+200E and U+200F, which Arabic and Hebrew captions need, stay. HTML entities stay.
    """
    notes = Note(0)
    if _CONTROL.search(caption):
        caption, notes = _CONTROL.sub(" ", caption), notes | Note.CAPTION_CONTROL_CHARACTERS
    if _BIDI.search(caption):
        caption, notes = _BIDI.sub("", caption), notes | Note.CAPTION_BIDI_CONTROLS
    return caption, notes


def parse_whole_number(text: str, low: int, high: int) -> int | None:
    """Parse a whole number in [low, high], such as `200` or `200.0`. None for all others, such as `1e9` and `12.5`."""
    found = _WHOLE.fullmatch(text.strip())
    value = int(found.group(1)) if found else None
    return value if value is not None and low <= value <= high else None


def parse_similarity(text: str) -> tuple[float | None, Note]:
    """Parse a cosine similarity. Returns None and the note if it is missing or invalid."""
    stripped = text.strip()
    if not stripped:
        return None, Note.SIMILARITY_MISSING
    if stripped.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        return None, Note.SIMILARITY_NOT_FINITE
    if not _DECIMAL.fullmatch(stripped):
        return None, Note.SIMILARITY_INVALID
    value = float(stripped)
    if not math.isfinite(value):
        return None, Note.SIMILARITY_NOT_FINITE
    return (value + 0.0, Note(0)) if -1.0 <= value <= 1.0 else (None, Note.SIMILARITY_OUT_OF_RANGE)


def _normalise_urls(urls: pa.Array, settings: DedupSettings, notes: np.ndarray, reasons: dict[int, Reason]) -> pa.Array:
    found = ColumnBytes.of(urls)
    plain = ~found.rows((found.content <= _SPACE) | (found.content >= _DELETE))
    plain &= (found.lengths <= settings.max_url_chars) & _to_numpy(pc.match_substring_regex(urls, _GOOD_HOST))

    def is_fine(some: pa.Array) -> pa.Array:
        short = pc.less_equal(pc.utf8_length(some), settings.max_url_chars)
        return pc.and_(short, pc.match_substring_regex(some, _GOOD_URL))

    def normal(row: int, url: str) -> str:
        stored = url.strip(_ASCII_SPACE).replace(" ", "%20")
        if stored != url:
            notes[row] |= Note.URL_SPACES
        if fault := find_url_fault(stored, settings.max_url_chars):
            reasons[row] = fault
        return stored

    return _rewrite(urls, plain, is_fine, normal)


def _normalise_captions(
    texts: pa.Array, settings: DedupSettings, notes: np.ndarray, reasons: dict[int, Reason]
) -> pa.Array:
    found = ColumnBytes.of(texts)
    plain = ~found.rows((found.content < _SPACE) | (found.content >= _DELETE))
    plain &= found.lengths <= settings.max_caption_chars

    def is_fine(some: pa.Array) -> pa.Array:
        short = pc.less_equal(pc.utf8_length(some), settings.max_caption_chars)
        return pc.and_(short, pc.invert(pc.match_substring_regex(some, _ODD_CAPTION)))

    def normal(row: int, caption: str) -> str:
        stored, note = normalise_caption(caption)
        notes[row] |= note
        if len(stored) > settings.max_caption_chars:
            reasons.setdefault(row, Reason.CAPTION_TOO_LONG)
        return stored

    stored = _rewrite(texts, plain, is_fine, normal)
    missing = ColumnBytes.of(stored).lengths == 0
    if not missing.any():
        return stored
    notes[missing] |= Note.CAPTION_MISSING
    return pc.if_else(pa.array(missing), None, stored)


def _normalise_labels(texts: pa.Array, invalid: Note, notes: np.ndarray) -> pa.Array:
    """Normalise labels. Each distinct label is checked once."""
    coded = texts.dictionary_encode()
    trimmed = pc.utf8_trim_whitespace(coded.dictionary)
    odd = pc.or_(
        pc.greater(pc.utf8_length(trimmed), MAX_LABEL_CHARS),
        pc.match_substring_regex(trimmed, r"[\x00-\x1f\x7f-\x{9f}]"),
    )
    if pc.any(odd).as_py():
        notes[_to_numpy(odd)[coded.indices.to_numpy()]] |= invalid
    return pc.if_else(pc.or_(odd, pc.equal(trimmed, "")), None, trimmed).take(coded.indices)


def _parse_whole_numbers(
    texts: pa.Array, name: str, low: int, high: int, kind: pa.DataType, notes: np.ndarray
) -> pa.Array:
    found = ColumnBytes.of(texts)
    plain = (found.lengths > 0) & (found.lengths <= _SURE_DIGITS) & ~found.rows(_is_not_digit(found.content))
    values = _cast(texts, plain, "0", pa.int64()).to_numpy()
    odd = ~(plain & (values >= low) & (values <= high))
    if not odd.any():
        return pa.array(values).cast(kind)
    written: list[int | None] = []
    for row, text in _select(texts, odd):
        value = parse_whole_number(text, low, high)
        if value is None:
            notes[row] |= Note[f"{name}_INVALID" if text.strip() else f"{name}_MISSING"]
        written.append(value)
    return pc.replace_with_mask(pa.array(np.where(odd, 0, values)).cast(kind), pa.array(odd), pa.array(written, kind))


def _parse_similarities(texts: pa.Array, notes: np.ndarray) -> pa.Array:
    found = ColumnBytes.of(texts)
    plain = found.lengths > len("0.")
    starts = found.edges[:-1][plain]
    plain[plain] = (found.content[starts] == ord("0")) & (found.content[starts + 1] == ord("."))
    other = _is_not_digit(found.content)
    other[found.edges[:-1][plain] + 1] = False
    plain &= ~found.rows(other)
    values = _cast(texts, plain, "0", pa.float64())
    if plain.all():
        return values
    written: list[float | None] = []
    for row, text in _select(texts, ~plain):
        value, note = parse_similarity(text)
        notes[row] |= note
        written.append(value)
    return pc.replace_with_mask(values, pa.array(~plain), pa.array(written, pa.float64()))


def _is_not_digit(content: np.ndarray) -> np.ndarray:
    """Return (m,) bool: which bytes are not digits."""
    return content - np.uint8(ord("0")) > 9


def _cast(texts: pa.Array, plain: np.ndarray, other: str, kind: pa.DataType) -> pa.Array:
    """Convert the plain ones of n texts to numbers, and `other` in the place of the rest."""
    return (texts if plain.all() else pc.if_else(pa.array(plain), texts, other)).cast(kind)


def _select(texts: pa.Array, chosen: np.ndarray) -> Iterator[tuple[int, str]]:
    """Iterate over the chosen ones of n texts, with their row numbers."""
    rows = np.flatnonzero(chosen)
    return zip(rows.tolist(), texts.take(pa.array(rows)).to_pylist(), strict=True)


def _rewrite(
    texts: pa.Array, plain: np.ndarray, is_fine: Callable[[pa.Array], pa.Array], rewrite: Callable[[int, str], str]
) -> pa.Array:
    """Replace the texts that are neither plain nor fine by `rewrite(row, text)`. Only texts that are not plain are
    passed to `is_fine`.
    """
    if plain.all():
        return texts
    odd = ~plain
    odd[odd] = ~_to_numpy(is_fine(texts.filter(pa.array(odd))))
    if not odd.any():
        return texts
    written = [rewrite(row, text) for row, text in _select(texts, odd)]
    return pc.replace_with_mask(texts, pa.array(odd), pa.array(written, pa.string()))


def _to_numpy(mask: pa.Array) -> np.ndarray:
    return mask.to_numpy(zero_copy_only=False)
