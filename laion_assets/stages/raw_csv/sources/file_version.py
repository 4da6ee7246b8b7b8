"""Compare a committed file with its server's version by a conditional request. No body is read."""

from laion_assets.errors import SourceError
from laion_assets.http.sources.async_client import AsyncClient
from laion_assets.http.sources.retry import TRANSIENT_STATUSES, transient_error, with_retries
from laion_assets.reasons import Rejection
from laion_assets.stages.raw_csv.transfers.partial_files import Origin
from laion_assets.stages.raw_csv.transfers.transfer import GONE, WHOLE_STATUSES, read_origin


async def compare_version(client: AsyncClient, url: str, committed: Origin) -> str:
    """Return `unchanged`, `changed` or `deleted` for a committed file.

    The entity tag, the date and the size are compared (RFC 9110, 13.1). If the server sends neither a tag nor a date,
    only a known and different size counts as a change. A response that is refused leaves the file unchanged, as a fetch
    does. Raises SourceError naming the URL after the retries.
    """

    async def ask() -> str:
        async with client.get(url, committed.conditions, committed.bound_to) as response:
            if response.status in GONE:
                return "deleted"
            if response.status == 304 and response.conditional:
                return "unchanged"
            if response.status in TRANSIENT_STATUSES:
                raise transient_error(response)
            if response.status not in WHOLE_STATUSES:
                raise SourceError(f"Failed to check {url}: the server answered {response.status}.")
            found = read_origin(response, url)
            if found.etag or found.last_modified:
                return "unchanged" if found.same_as(committed) else "changed"
            return "changed" if min(found.size, committed.size) >= 0 and found.size != committed.size else "unchanged"

    try:
        return await with_retries(ask, url, client.policy.retries)
    except Rejection:
        return "unchanged"
