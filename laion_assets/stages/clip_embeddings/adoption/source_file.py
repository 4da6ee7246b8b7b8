"""One file of `clip-retrieval inference`: img_emb_N.npy, text_emb_N.npy and metadata_N.parquet with the same rows.

Rows are matched with samples by `image_path`, which is the sample key for webdataset input. Their order is not that of
our files: clip-retrieval gives every N-th tar to a file, and its loader workers take turns.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from laion_assets.dataset.layout import SAMPLES_PER_SHARD_KEY
from laion_assets.errors import AdoptionError, EmbeddingError
from laion_assets.models.clip_model import MIN_NORM
from laion_assets.stages.adoption import SourceFile
from laion_assets.stages.clip_embeddings.verify import NORM_TOLERANCE
from laion_assets.tables.vector_file import FIX, open_vectors

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

KINDS = ("img_emb", "text_emb", "metadata")
SUFFIXES = {"img_emb": "npy", "text_emb": "npy", "metadata": "parquet"}
MAX_NORM_ERROR = 0.02
"""Maximum difference of a norm from 1. bfloat16 rounds the norm by up to 0.4 % before clip-retrieval divides by it."""
_BLOCK_ROWS = 65_536


@dataclass(frozen=True, eq=False)
class EmbeddingSource:
    """A verified file of clip-retrieval, n rows.

    `sorted_keys` (n,) uint32 are the sample keys in ascending order, `rows` (n,) uint32 the row of each.
    `directionless` (n,) bool marks rows of which a vector is zero or not finite. `is_unit` is True if all other norms
    are 1 within NORM_TOLERANCE.
    """

    number: str
    width: int
    sources: dict[str, SourceFile]
    sorted_keys: "np.ndarray"
    rows: "np.ndarray"
    directionless: "np.ndarray"
    is_unit: bool

    @classmethod
    def read(cls, folder: Path, number: str) -> "EmbeddingSource":
        """Verify the three files against each other. Raises AdoptionError with the first problem, and OSError."""
        import numpy as np

        sources = {kind: SourceFile.read(source_path(folder, kind, number)) for kind in KINDS}
        try:
            images = open_vectors(sources["img_emb"].path)
            texts = open_vectors(sources["text_emb"].path, images.shape[1])
        except EmbeddingError as error:
            raise AdoptionError(str(error).removesuffix(FIX).strip()) from error
        keys = _read_keys(sources["metadata"].path)
        if not len(images) == len(texts) == len(keys):
            raise AdoptionError(
                f"its files have different numbers of rows: img_emb {len(images):,}, text_emb {len(texts):,}, metadata "
                f"{len(keys):,}"
            )
        order = np.argsort(keys, kind="stable").astype(np.uint32)
        ordered = keys[order]
        twice = np.flatnonzero(ordered[1:] == ordered[:-1])
        if len(twice):
            raise AdoptionError(f"its metadata has the sample {ordered[twice[0]]:09d} twice")
        directionless = np.zeros(len(keys), bool)
        is_unit = True
        for kind, vectors in (("img_emb", images), ("text_emb", texts)):
            for start in range(0, len(vectors), _BLOCK_ROWS):
                norms = np.linalg.norm(vectors[start : start + _BLOCK_ROWS].astype(np.float32), axis=1)
                lost = ~np.isfinite(norms) | (norms < MIN_NORM)
                off = np.where(lost, 0, np.abs(norms - 1))
                if (off > MAX_NORM_ERROR).any():
                    row = int(np.argmax(off > MAX_NORM_ERROR))
                    raise AdoptionError(
                        f"row {start + row} of its {kind} has norm {norms[row]:.4f}, expected 1: these are not vectors "
                        "of clip-retrieval"
                    )
                directionless[start : start + len(lost)] |= lost
                is_unit = is_unit and not (off > NORM_TOLERANCE).any()
        return cls(number, int(images.shape[1]), sources, ordered, order, directionless, is_unit)

    @property
    def shards(self) -> list[int]:
        """The numbers of the shards with rows in this file."""
        import numpy as np

        found: list[int] = np.unique(self.sorted_keys // SAMPLES_PER_SHARD_KEY).tolist()
        return found

    def keys_of_shard(self, shard: int) -> "tuple[np.ndarray, np.ndarray]":
        """Return the sample keys of a shard in ascending order, and their rows, each (m,) uint32."""
        import numpy as np

        first, end = np.searchsorted(
            self.sorted_keys, [shard * SAMPLES_PER_SHARD_KEY, (shard + 1) * SAMPLES_PER_SHARD_KEY]
        )
        return self.sorted_keys[first:end], self.rows[first:end]

    def vectors(self, kind: str) -> "np.ndarray":
        """Open the vectors of `img_emb` or `text_emb`: (n, width) float16, memory-mapped."""
        self.sources[kind].check_unchanged()
        return open_vectors(self.sources[kind].path, self.width)

    def metadata(self) -> "pa.Table":
        """Read the columns of the metadata that are compared with the shards: caption, and url if it is there."""
        import pyarrow.parquet as pq

        path = self.sources["metadata"].path
        names = [name for name in ("caption", "url") if name in pq.read_schema(path).names]
        return pq.read_table(path, columns=names)


def source_path(folder: Path, kind: str, number: str) -> Path:
    """Return the path of a file of clip-retrieval: `img_emb/img_emb_0.npy`."""
    return folder / kind / f"{kind}_{number}.{SUFFIXES[kind]}"


def _read_keys(path: Path) -> "np.ndarray":
    """Read the sample keys of a metadata file, (n,) uint32. Raises AdoptionError."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(path).names
        if "caption" not in names or "image_path" not in names:
            raise AdoptionError(
                "its metadata has no columns image_path and caption: clip-retrieval must run with enable_image and "
                "enable_text"
            )
        keys = pq.read_table(path, columns=["image_path"]).column("image_path").combine_chunks().cast(pa.string())
    except (OSError, ValueError) as error:
        raise AdoptionError(f"its metadata cannot be read: {error}") from error
    valid = pc.fill_null(pc.match_substring_regex(keys, "^[0-9]{9}$"), False).to_numpy(zero_copy_only=False)
    if not valid.all():
        row = int(np.argmin(valid))
        raise AdoptionError(
            f"row {row} of its metadata has the image_path {keys[row].as_py()!r}, expected a sample key of 9 digits: "
            "clip-retrieval must run with input_format=webdataset over the tars of image_shards"
        )
    found: np.ndarray = keys.cast(pa.uint32()).to_numpy()
    return found
