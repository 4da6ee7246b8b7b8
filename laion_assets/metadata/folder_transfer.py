"""One file of a local folder or an object store: copied if it changed, checked for its length."""

import shutil
from typing import Any

from laion_assets.metadata.listing import Listed
from laion_assets.metadata.partial import Origin, Partials
from laion_assets.metadata.retry import TransientError, with_retries
from laion_assets.metadata.transfer import Fetched


def copy_file(
    fs: Any, listed: Listed, info: dict[str, Any], partials: Partials, published: Origin | None, retries: int
) -> Fetched:
    """Copy one file into `partials`, unless it is there or published already with the same size and date or tag.

    Raises SourceError naming the file after the retries.
    """
    stamp = info.get("mtime") or info.get("LastModified") or info.get("last_modified") or info.get("updated") or ""
    origin = Origin(listed.url, str(info.get("ETag") or info.get("etag") or ""), str(stamp), int(info.get("size") or 0))
    if published and origin.same_as(published):
        return Fetched("unchanged", published)
    earlier = partials.origin(listed.path)
    if earlier and origin.same_as(earlier) and partials.done(listed.path).exists():
        return Fetched("fetched", origin)

    def copy() -> int:
        partials.begin(listed.path, origin)
        with fs.open(listed.url, "rb") as source, partials.part(listed.path).open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        size = partials.part(listed.path).stat().st_size
        if size != origin.size:
            raise TransientError(f"{size} of {origin.size} bytes came")
        return size

    size = with_retries(copy, listed.url, retries)
    partials.finish(listed.path, origin)
    return Fetched("fetched", origin, size)
