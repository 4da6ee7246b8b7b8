"""Search the committed indices of a dataset by text, image or vector."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import ShardNumber
from laion_assets.errors import QueryError
from laion_assets.search.index.index_version import IndexVersion
from laion_assets.search.queries.query_images import decode_query_image
from laion_assets.search.queries.request import check_text, parse_integer
from laion_assets.search.results.safety import SAFE_TAG, may_be_published
from laion_assets.search.results.safety_model import SafetyModel
from laion_assets.search.stored_images import read_stored_image, shard_of
from laion_assets.stages.knn_indices.details import IndexDetails
from laion_assets.stages.knn_indices.vectors import MODALITIES
from laion_assets.store.manifest import Manifest
from laion_assets.store.store import Store

if TYPE_CHECKING:
    import numpy as np

    from laion_assets.models.clip_model import ClipModel


@dataclass(frozen=True)
class SearchResult:
    """One result: uid, img2dataset key, caption and URL from the crawl (both untrusted text), cosine similarity to the
    query, shard, row (the id in the index) and NSFW tag, if any."""

    uid: str
    key: str
    caption: str
    url: str
    similarity: float
    shard: ShardNumber
    row: int
    nsfw: str | None = None


class Searcher:
    """The committed indices of a dataset, memory-mapped. Close it, or use it as a context manager.

    An index is opened at its first search, after its sha256 is verified (IntegrityError). The model is loaded at the
    first search by text or image, unless it is passed. Raises IncompleteError if `knn_indices` is not committed,
    ModelError if the indices were built with another model than the dataset's.
    """

    def __init__(
        self,
        dataset: Dataset,
        store: Store | None = None,
        model: "ClipModel | None" = None,
        safety: SafetyModel | None = None,
    ) -> None:
        self.dataset = dataset
        self.store = store or Store.of(dataset)
        self._model = model
        self.version = IndexVersion(dataset, self.store, safety, model.identity if model else None)
        self.manifest: Manifest = self.version.manifest
        self.details: IndexDetails = self.version.details

    def search(
        self,
        text: str | None = None,
        image: bytes | None = None,
        vector: "Sequence[float] | np.ndarray | None" = None,
        k: int = 10,
        modality: str = "image",
    ) -> list[SearchResult]:
        """Return the `k` nearest images (`modality` image) or captions (text), nearest first; fewer if there are fewer.

        Pass exactly one of `text`, `image` (an encoded image) and `vector` (as wide as the index). Raises QueryError
        naming the invalid argument.
        """
        import numpy as np

        parse_integer(k, "k", 1, self.dataset.search.max_k)
        if modality not in MODALITIES:
            raise QueryError(f"Unknown modality {modality!r}. Choose from {', '.join(MODALITIES)}.")
        if sum(value is not None for value in (text, image, vector)) != 1:
            raise QueryError("Pass exactly one of text, image and vector.")
        if text is not None:
            query = self._text_vector(text)
        elif image is not None:
            query = self._image_vector(image)
        else:
            query = self._check_vector(vector)
        ids, similarities = self.version.nearest(modality, np.ascontiguousarray(query, dtype=np.float32), k)
        return [self._result(row, similarity) for row, similarity in zip(ids, similarities, strict=True)]

    def safe(self, results: Sequence[SearchResult]) -> list[SearchResult]:
        """Return the results that may be published and that the safety model, if one was passed, does not hide."""
        untagged = self.dataset.search_report.show_untagged
        tagged = [result for result in results if may_be_published({"NSFW": result.nsfw}, untagged)]
        shown = self.version.shown([result.row for result in tagged], [{"NSFW": SAFE_TAG}] * len(tagged))
        return [result for result, each in zip(tagged, shown, strict=True) if each]

    def read_image(self, result: SearchResult) -> bytes:
        """Read the stored image of a result. Raises IntegrityError if its shard no longer has it."""
        return read_stored_image(self.store, self.dataset.layout, result.key, result.uid).content

    @cached_property
    def model(self) -> "ClipModel":
        """The CLIP model, loaded when first needed."""
        from laion_assets.models.loading import load_model

        settings = self.dataset.embeddings
        return self._model or load_model(self.dataset.model, settings.device, settings.precision)

    def _text_vector(self, text: str) -> "np.ndarray":
        check_text(text, self.dataset.search, "text")
        return self.model.encode_texts([text])[0]

    def _image_vector(self, image: bytes) -> "np.ndarray":
        import torch

        largest = self.dataset.search.max_image_bytes
        if len(image) > largest:
            raise QueryError(f"The image has {len(image):,} bytes; the maximum is {largest:,}.")
        pixels = self.model.preprocess(decode_query_image(self.dataset, image))
        return self.model.encode_images(torch.stack([pixels]))[0]

    def _check_vector(self, vector: Any) -> "np.ndarray":
        import numpy as np

        width = self.details.width
        try:
            query = np.asarray(vector, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise QueryError(f"Invalid vector: expected {width} numbers: {error}") from error
        if query.shape != (width,):
            raise QueryError(f"Invalid vector of shape {query.shape}: expected {width} numbers.")
        norm = float(np.linalg.norm(query))
        if not np.isfinite(norm) or norm == 0:
            raise QueryError("The vector is zero or not finite, so it has no direction.")
        return query / norm

    def _result(self, row: int, similarity: float) -> SearchResult:
        fields = self.fields(row)
        key = str(fields["image_path"])
        return SearchResult(
            uid=str(fields["uid"]),
            key=key,
            caption=fields["caption"] or "",
            url=fields["url"] or "",
            similarity=similarity,
            shard=shard_of(key),
            row=row,
            nsfw=fields.get("NSFW"),
        )

    def fields(self, row: int) -> dict[str, Any]:
        """Read the metadata of one id. Raises IntegrityError if its file was altered since the commit."""
        return self.version.metadata.fields(row)

    def close(self) -> None:
        """Close indices and files."""
        self.version.close()

    def __enter__(self) -> "Searcher":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
