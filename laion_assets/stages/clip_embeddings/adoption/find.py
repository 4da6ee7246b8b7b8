"""Find the files of `clip-retrieval inference` in a folder and verify them. Nothing is changed."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import SAMPLES_PER_SHARD_KEY, SHARD_DIGITS, ShardNumber
from laion_assets.errors import AdoptionError, LaionAssetsError
from laion_assets.progress import Progress
from laion_assets.stages.adoption import Findings, listed_files, refuse_own_folder
from laion_assets.stages.clip_embeddings.adoption.partition import verify_partition
from laion_assets.stages.clip_embeddings.adoption.rows import compare_captions, match_rows
from laion_assets.stages.clip_embeddings.adoption.source_file import KINDS, SUFFIXES, EmbeddingSource, source_path
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS
from laion_assets.stages.image_shards.handle import ImageShards
from laion_assets.stages.status import DatasetStatus, require_complete
from laion_assets.store.store import Store


def find_embedding_files(dataset: Dataset, store: Store, folder: Path, log: Callable[[str], None]) -> Findings:
    """Verify every file of clip-retrieval in a folder, then the embedding files that their rows form.

    The rows of an embedding file may be in any of clip-retrieval's files. A few rows are encoded again with the
    dataset's model, unless something was refused before. Raises AdoptionError if the folder has no such file,
    ModelError if the model cannot be loaded.
    """
    refuse_own_folder(dataset, store, folder)
    found = Findings()
    sources = _Sources(dataset, store, folder, found)
    sources.read(log)
    if found.refused:
        return found
    from laion_assets.models.loading import load_model

    log(f"loading the model {dataset.model}")
    model = load_model(dataset.model, dataset.embeddings.device, dataset.embeddings.precision)
    status = DatasetStatus(dataset)
    wanted = {dataset.layout.embedding_of_shard(shard) for shard in sources.of_shard}
    progress = Progress(log, "embedding files verified", len(wanted), "rows")
    for embedding in sorted(wanted):
        key = dataset.layout.embedding_key(embedding)
        try:
            verified = verify_partition(dataset, store, folder, embedding, sources.of_shard, model)
            found.add(verified, status.state(CLIP_EMBEDDINGS, embedding), store)
            progress.add(1, verified.counts.rows_in)
        except (LaionAssetsError, OSError) as error:
            found.refuse(key, error)
            progress.add(1)
    return found


@dataclass
class _Sources:
    """The files of clip-retrieval in a folder; `of_shard` has the file with the rows of each shard."""

    dataset: Dataset
    store: Store
    folder: Path
    found: Findings

    def __post_init__(self) -> None:
        self.of_shard: dict[ShardNumber, EmbeddingSource] = {}

    def read(self, log: Callable[[str], None]) -> None:
        """Verify each file, and its rows with the samples of the shards; refuse the files that do not fit."""
        numbers = self._list_numbers()
        progress = Progress(log, "files verified", len(numbers), "rows")
        for number in numbers:
            try:
                source = EmbeddingSource.read(self.folder, number)
                self._compare(source)
                progress.add(1, len(source.rows))
            except OSError as error:
                self.found.refuse(f"file {number}", f"{error.filename or 'a file'} cannot be read: {error.strerror}")
                progress.add(1)
            except LaionAssetsError as error:
                self.found.refuse(f"file {number}", error)
                progress.add(1)

    def _list_numbers(self) -> list[str]:
        """Return the numbers of the complete files, in order; refuse the others. Raises AdoptionError."""
        numbers: dict[str, set[str]] = {}
        for kind in KINDS:
            if not (self.folder / kind).is_dir():
                raise AdoptionError(
                    f"{self.folder} has no folder {kind}/. Name the output_folder of clip-retrieval inference, which "
                    "has img_emb/, text_emb/ and metadata/."
                )
            files, others = listed_files(self.folder / kind, re.compile(rf"{kind}_(\d+)\.{SUFFIXES[kind]}", re.ASCII))
            self.found.ignored += [f"{kind}/{name}" for name in others]
            for match in files.values():
                numbers.setdefault(match[1], set()).add(kind)
        if not numbers:
            raise AdoptionError(f"{self.folder} has no files of clip-retrieval inference (img_emb/img_emb_0.npy, ...).")
        for number, kinds in numbers.items():
            for kind in KINDS:
                if kind not in kinds:
                    self.found.refuse(f"file {number}", f"{source_path(Path(), kind, number)} is missing")
        return sorted(number for number, kinds in numbers.items() if len(kinds) == len(KINDS))

    def _compare(self, source: EmbeddingSource) -> None:
        """Compare the rows of a file with their shards, by key, caption and url. Raises AdoptionError."""
        layout = self.dataset.layout
        metadata = source.metadata()
        for number in source.shards:
            if number not in layout.shard_numbers:
                key = int(source.keys_of_shard(number)[0][0])
                raise AdoptionError(
                    f"its metadata has the sample {key:09d} of shard {key // SAMPLES_PER_SHARD_KEY:0{SHARD_DIGITS}d}, "
                    f"which {self.dataset.name} does not have"
                )
            shard = ShardNumber(number)
            require_complete(self.dataset, ImageShards(self.store, layout, (shard,)))
            if (other := self.of_shard.get(shard)) is not None:
                raise AdoptionError(
                    f"shard {layout.shard_key(shard)} has rows in file {other.number}, too: name a folder of one run"
                )
            compare_captions(match_rows(self.store, layout, shard, source), metadata)
            self.of_shard[shard] = source
