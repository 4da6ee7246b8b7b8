"""Receive rows from img2dataset in the order in which they finish, and pass them to the writer of our shards.

img2dataset catches all errors of its sample writer and drops the row. So errors are kept here until it has ended.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from laion_assets.http.fetch import Fetched
from laion_assets.http.urllib_opener.opener import GuardedOpener
from laion_assets.reasons import RESIZE_STATUS, SUCCESS_STATUS, Reason
from laion_assets.stages.image_shards.decoding.exif import MAX_JSON_CHARS, technical
from laion_assets.stages.image_shards.img2dataset.reasons import parse_message
from laion_assets.stages.image_shards.settings import ImageSettings
from laion_assets.stages.image_shards.shard.fetch import make_outcome_columns

Add = Callable[[int, Fetched, dict[str, Any], Reason, bytes | None], None]
"""Adds one row: its place, how it was fetched, its columns behind the key, its reason, and its image if it has one."""


class RowCollector:
    """The sample writer of one call of img2dataset's Downloader. Its key is the row's number among `places`."""

    def __init__(
        self, images: ImageSettings, opener: GuardedOpener, places: Sequence[int], urls: Sequence[str], add: Add
    ) -> None:
        self._images = images
        self._opener = opener
        self._places = places
        self._urls = urls
        self._add = add
        self._missing = dict.fromkeys(range(len(places)))
        self._error: Exception | None = None

    def write(self, img_str: bytes | None, key: str, caption: str | None, meta: dict[str, Any]) -> None:
        """Pass one row on. After an error, all further requests fail at once and their rows are ignored."""
        if self._error is not None:
            return
        try:
            self._take(int(key), meta, img_str)
        except Exception as error:
            self._error = error
            self._opener.stop()

    def close(self) -> None:
        """Nothing to do: the shard's writer is closed after all calls."""

    def finish(self) -> None:
        """Pass on the rows that img2dataset dropped, as `internal`. Raises the error of the shard's writer or watch."""
        if self._error is not None:
            raise self._error
        for number in list(self._missing):
            message = f"{Reason.INTERNAL.value}: img2dataset dropped the row, the log has its error"
            self._take(number, {"status": RESIZE_STATUS, "error_message": message}, None)

    def _take(self, number: int, meta: dict[str, Any], image: bytes | None) -> None:
        columns = make_outcome_columns(self._images, meta["status"], None)
        reason = Reason.SUCCESS
        if meta["status"] == SUCCESS_STATUS:
            columns |= {name: meta[name] for name in columns}
            if self._images.extract_exif:
                columns["exif"] = self._filter_exif(meta["exif"])
        else:
            reason, columns["error_message"] = parse_message(meta["error_message"] or "")
        del self._missing[number]
        self._add(self._places[number], self._describe_fetch(self._urls[number], reason), columns, reason, image)

    def _filter_exif(self, found: str | None) -> str | None:
        """Return img2dataset's tags, without the personal ones unless the settings keep them."""
        if found is not None and not self._images.keep_personal_exif:
            found = json.dumps(technical(json.loads(found)))
        return found if found is None or len(found) <= MAX_JSON_CHARS else None

    def _describe_fetch(self, url: str, reason: Reason) -> Fetched:
        """Return the last try at the URL, for the watch of local failures."""
        visit = self._opener.latest.get(url)
        hops = tuple(visit.hops) if visit is not None else ()
        started, ended = (visit.started, visit.ended) if visit is not None else (0.0, 0.0)
        return Fetched(
            url=url,
            reason=reason,
            detail="",
            hops=hops,
            headers=(),
            body=b"",
            wire_bytes=0,
            attempts=1,
            seconds=ended - started,
            started=started,
        )
