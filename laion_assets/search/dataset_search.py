"""Search in one dataset from many threads: combine the terms of a query, find its results, read rows and images."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import IntegrityError, QueryError
from laion_assets.search.index.current_index import CurrentIndex
from laion_assets.search.index.index_version import IndexVersion
from laion_assets.search.queries.encoding import QueryEncoder
from laion_assets.search.queries.request import SearchRequest, Term
from laion_assets.search.results.find import Found, Query, find
from laion_assets.search.results.safety_model import SafetyModel
from laion_assets.search.stored_images import StoredImage, read_stored_image

if TYPE_CHECKING:
    import numpy as np

Result = TypeVar("Result")
_MIN_NORM = 1e-4


class DatasetSearch:
    """The searches, rows and images of a dataset that may be shown. Every reader of the service goes through it.

    Raises IncompleteError, ModelError or IntegrityError if the committed indices cannot be opened, SettingError if the
    safety model cannot be used.
    """

    def __init__(self, dataset: Dataset, encoder: QueryEncoder) -> None:
        self.dataset = dataset
        self.settings = dataset.search
        self.encoder = encoder
        self.safety = SafetyModel.of(dataset)
        self.current = CurrentIndex(dataset, self.safety)

    def prepare(self) -> None:
        """Read the NSFW tags of all rows of the open index, and all metadata if it fits `search.cached_rows`."""
        self.with_version(lambda version: version.prepare())

    def search(self, request: SearchRequest) -> Found:
        """Run a query and wait for its results. Raises QueryError naming the invalid field."""
        vectors = [self.encode(term, f"terms[{number}]").result() for number, term in enumerate(request.terms)]
        vector = combine(request.terms, vectors)
        return self.find(vector, request)

    def find(self, vector: "np.ndarray", request: SearchRequest) -> Found:
        """Return the page of results of a query vector of norm 1."""
        query = Query(vector, request.index, request.k, request.offset, request.filters, request.collapse)
        return self.with_version(lambda version: find(version, self.settings, query))

    def encode(self, term: Term, field: str) -> "Future[np.ndarray]":
        """Start to encode a term; the future ends with a vector of norm 1. Raises QueryError naming the field."""
        if term.kind == "text":
            return self.encoder.encode_text(term.value)
        if term.kind == "image":
            return self.encoder.encode_image_file(self.dataset, term.value, f"{field}.image")
        if term.kind == "image_url" and self.settings.image_by_url:
            return self.encoder.encode_image_url(self.dataset, term.value, f"{field}.image_url")
        found: Future[np.ndarray] = Future()
        if term.kind == "id":
            found.set_result(self._row_vector(term.value, f"{field}.id"))
        elif term.kind == "vector":
            found.set_result(self._check_vector(term.value, f"{field}.vector"))
        else:
            raise QueryError(
                "Queries by image URL are off (search.image_by_url). Send the image itself.",
                f"{field}.{term.kind}",
                "image_by_url_off",
            )
        return found

    def row(self, row_id: int) -> dict[str, Any]:
        """Return the metadata of a row (`RESULT_COLUMNS`). Raises QueryError if it does not exist or is hidden."""

        def read(version: IndexVersion) -> dict[str, Any]:
            if not 0 <= row_id < len(version):
                raise _no_row(row_id)
            rows = version.metadata.rows([row_id])
            if not version.shown([row_id], rows)[0]:
                raise _no_row(row_id)
            return rows[0]

        return self.with_version(read)

    def all_fields(self, row_id: int) -> dict[str, Any]:
        """Return all columns of a row's metadata. Raises QueryError if it does not exist or is hidden."""
        self.row(row_id)
        return self.with_version(lambda version: version.metadata.fields(row_id))

    def image(self, row_id: int, uid: str) -> StoredImage:
        """Read the stored image of a row. Raises QueryError if the row is hidden or has another uid, IntegrityError."""
        row = self.row(row_id)
        if row["uid"] != uid:
            raise _no_row(row_id)
        return read_stored_image(self.current.store, self.dataset.layout, str(row["image_path"]), uid)

    def require_safety_model(self, is_required: bool) -> None:
        """Raise QueryError if a client asks for a safety model that the service does not have."""
        if is_required and self.safety is None:
            raise QueryError(
                "This service has no safety model: rows are hidden by their NSFW tag only. Leave out safety_model, or "
                "ask the operator to set search.safety_model.",
                "safety_model",
                "no_safety_model",
            )

    def with_version(self, read: Callable[[IndexVersion], Result]) -> Result:
        """Return `read` of the open index. If its files were replaced by a newer commit, read from that one."""
        try:
            return read(self.current.version)
        except IntegrityError:
            if not self.current.refresh():
                raise
            return read(self.current.version)

    def _row_vector(self, row_id: int, field: str) -> "np.ndarray":
        try:
            self.row(row_id)
        except QueryError as error:
            raise QueryError(str(error), field, error.code) from error
        return self.with_version(lambda version: version.vectors("image", [row_id])[0])

    def _check_vector(self, numbers: Sequence[float], field: str) -> "np.ndarray":
        import numpy as np

        width = self.current.version.details.width
        if len(numbers) != width:
            raise QueryError(f"{field} has {len(numbers):,} numbers: expected {width}.", field, "invalid_vector")
        vector = np.asarray(numbers, dtype=np.float64)
        return (vector / np.linalg.norm(vector)).astype(np.float32)


def combine(terms: Sequence[Term], vectors: "Sequence[np.ndarray]") -> "np.ndarray":
    """Return the normalised weighted sum of unit vectors. Raises QueryError if the terms cancel out."""
    import numpy as np

    if len(vectors) == 1 and terms[0].weight > 0:
        return np.asarray(vectors[0], dtype=np.float32)
    total = sum(term.weight * np.asarray(vector, np.float64) for term, vector in zip(terms, vectors, strict=True))
    norm = float(np.linalg.norm(total))
    if norm < _MIN_NORM:
        raise QueryError("The terms cancel each other out. Change their weights.", "terms", "invalid_terms")
    return np.asarray(total / norm, dtype=np.float32)


def _no_row(row_id: int) -> QueryError:
    # The same for a hidden row: the answer does not tell whether it exists.
    return QueryError(f"There is no row with the id {row_id} to show.", "id", "not_found")
