"""Results as JSON values."""

from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.search.results.filters import domain_of, original_size
from laion_assets.search.results.find import Hit


def describe_result(dataset: Dataset, hit: Hit) -> dict[str, Any]:
    """Return a hit as the fields of a result. Caption and URL are text from strangers."""
    row = hit.row
    width, height = original_size(row)
    url = row.get("url") or ""
    return {
        "id": hit.id,
        "uid": row["uid"],
        "similarity": round(hit.similarity, 6),
        "caption": row.get("caption") or "",
        "url": url,
        "domain": domain_of(url),
        "width": width,
        "height": height,
        "nsfw": row.get("NSFW"),
        "licence": row.get("LICENSE"),
        "image": image_path(dataset, hit.id, row["uid"]),
        "duplicates": hit.duplicates,
    }


def image_path(dataset: Dataset, row_id: int, uid: str) -> str:
    """Return the path of a stored image on this service. Names of datasets need no escapes."""
    return f"/images/{dataset.name}/{row_id}/{uid}.{dataset.images.encode_format}"
