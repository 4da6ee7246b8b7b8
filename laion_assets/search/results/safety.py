"""Which rows may be shown. The operator decides with `search.show`, never the client."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from laion_assets.search.settings import SearchSettings

if TYPE_CHECKING:
    import numpy as np

    from laion_assets.search.index.metadata_rows import MetadataRows

SAFE_TAG = "UNLIKELY"
"""LAION's tag of rows that are probably safe for work. The others are UNSURE and NSFW."""


def is_shown(row: Mapping[str, Any], settings: SearchSettings) -> bool:
    """Whether a row may be shown: it is tagged UNLIKELY, has no tag, or has a tag in `search.show`."""
    tag = normalise_tag(row.get("NSFW"))
    return tag in ("", SAFE_TAG) or tag in settings.show


def may_be_published(row: Mapping[str, Any], show_untagged: bool) -> bool:
    """Whether the image of a row may be in the search report and in the Dagster UI: it is tagged UNLIKELY.

    `show_untagged` is the setting `search_report.show_untagged`: then it may also have no tag.
    """
    return row.get("NSFW") == SAFE_TAG or (show_untagged and not normalise_tag(row.get("NSFW")))


def normalise_tag(tag: Any) -> str:
    """Return an NSFW tag in upper case, empty for no tag."""
    return "" if tag is None else str(tag).strip().upper()


@dataclass(frozen=True)
class TagCounts:
    """The NSFW tags of all rows of an index.

    `rows` is the number of rows by tag. `hidden` has one bit per id, in the order of `numpy.packbits`: 52 MB for
    LAION-400M.
    """

    rows: dict[str, int]
    hidden: "np.ndarray"
    hidden_rows: int

    def shown(self, ids: "np.ndarray") -> "np.ndarray":
        """Return for each id whether its row may be shown, (n,) bool."""
        found: np.ndarray = (self.hidden[ids >> 3] >> (7 - (ids & 7)) & 1) == 0
        return found


def read_tags(metadata: "MetadataRows", settings: SearchSettings) -> TagCounts:
    """Read the NSFW tag of every row: one column of all metadata files."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    counts: dict[str, int] = {}
    hidden = np.zeros(len(metadata), dtype=bool)
    start = 0
    for column in metadata.tags():
        if isinstance(column, int):
            counts[""] = counts.get("", 0) + column
            start += column
            continue
        found = pc.value_counts(column)
        hidden_tags = []
        for position, entry in enumerate(found.to_pylist()):
            tag = normalise_tag(entry["values"])
            counts[tag] = counts.get(tag, 0) + entry["counts"]
            if not is_shown({"NSFW": tag}, settings):
                hidden_tags.append(position)
        if hidden_tags:
            # Through buffers: pa.array, pa.scalar and to_numpy import pandas, which takes 0.3 s.
            positions = pa.Array.from_buffers(
                pa.int64(), len(hidden_tags), [None, pa.py_buffer(np.array(hidden_tags, np.int64))]
            )
            is_hidden = pc.is_in(column, value_set=found.field("values").take(positions))
            place = start
            for chunk in is_hidden.chunks:
                bits = np.unpackbits(np.frombuffer(chunk.buffers()[1], np.uint8), bitorder="little")
                hidden[place : place + len(chunk)] = bits[chunk.offset : chunk.offset + len(chunk)]
                place += len(chunk)
        start += len(column)
    return TagCounts(counts, np.packbits(hidden), int(hidden.sum()))
