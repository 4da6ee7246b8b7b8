"""Build one embedding file in a worker process or in Spark. A process keeps its model for its next task."""

import platform
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import EmbeddingNumber
from laion_assets.errors import ModelError, SettingError
from laion_assets.models.weights import weights_identity
from laion_assets.stages.clip_embeddings.distribution.devices import (
    choose_spark_device,
    read_gpu_addresses,
    read_task_cores,
)
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS
from laion_assets.store.manifest import Manifest
from laion_assets.store.store import Store
from laion_assets.workers.task import Send, Task

if TYPE_CHECKING:
    from laion_assets.models.clip_model import ClipModel


@dataclass(frozen=True)
class EncodedGroup:
    """A message of a running task: so many more shards and samples are encoded."""

    shards: int
    samples: int


@dataclass(frozen=True)
class EmbeddingOutcome:
    """A committed embedding file, whether it was built now, and where: a device, in Spark also the host."""

    embedding: EmbeddingNumber
    manifest: Manifest
    was_built: bool
    place: str


@dataclass(frozen=True)
class EmbeddingTask:
    """Build one embedding file of a dataset unless it is complete.

    `weights` is the identity of the model's weights in the driver; on a host with others, the task fails. `device`,
    `cores` (the number of cores to use) and `host` (empty for this machine) are set where the task runs.
    """

    dataset: Dataset
    embedding: EmbeddingNumber
    weights: str
    device: str = "cpu"
    cores: int = 1
    host: str = ""

    @property
    def number(self) -> int:
        """The number of the embedding file."""
        return self.embedding

    @property
    def key(self) -> str:
        """The partition key of the embedding file."""
        return self.dataset.layout.embedding_key(self.embedding)

    def run(self, send: Send) -> EmbeddingOutcome:
        """Encode and commit the file. Sends log lines and, outside of Spark, which delivers them late, EncodedGroups.

        Raises the errors of `build_embedding_file`; ModelError also if a package or the weights are missing here, or
        the weights are others than the driver's; SettingError if the dataset's root does not exist here.
        """
        where = self.host or "this machine"
        store = Store.of(self.dataset)
        if store.local_root is not None and not store.local_root.is_dir():
            raise SettingError(
                f"The dataset's folder {store.local_root} does not exist on {where}. All executors need the dataset's "
                "root at the same address: set it to an object store or a shared disk."
            )
        if weights_identity(self.dataset.model) != self.weights:
            raise ModelError(
                f"The weights of {self.dataset.model} on {where} differ from the driver's. Copy the driver's file "
                "there."
            )
        embeddings = self.dataset.embeddings
        dataset = replace(
            self.dataset, embeddings=replace(embeddings, decode_threads=embeddings.decode_threads or self.cores)
        )
        place = f"{self.device} of {self.host}" if self.host else self.device
        try:
            from laion_assets.stages.clip_embeddings.build import build_embedding_file, find_complete_manifest

            if (complete := find_complete_manifest(dataset, store, self.embedding)) is not None:
                send(f"{CLIP_EMBEDDINGS} {self.key}: already complete, {complete.counts.rows_out:,} rows")
                return EmbeddingOutcome(self.embedding, complete, False, place)
            model = _load_once(dataset, self.device, self.cores)
        except ImportError as error:
            raise ModelError(
                f"{self.dataset.model} cannot be loaded on {where}, because its Python lacks the package "
                f"{error.name or error}. Install the packages of requirements.lock there."
            ) from error

        def on_encoded(shards: int, samples: int) -> None:
            if not self.host:
                send(EncodedGroup(shards, samples))

        built = build_embedding_file(dataset, store, self.embedding, model, send, on_encoded)
        return EmbeddingOutcome(self.embedding, built.manifest, built.was_built, place)


def place_in_spark(task: "Task[EmbeddingOutcome]") -> "Task[EmbeddingOutcome]":
    """Return the task with the device and cores that Spark assigned to it; call it on its executor."""
    assert isinstance(task, EmbeddingTask)
    device = choose_spark_device(task.dataset.embeddings.device, read_gpu_addresses())
    return replace(task, device=device, cores=read_task_cores(), host=platform.node())


_LOADED: "dict[tuple[Any, ...], ClipModel]" = {}
"""The model of this process, by what it was loaded with."""


def _load_once(dataset: Dataset, device: str, cores: int) -> "ClipModel":
    """Return the loaded model, the one of the task before if it is the same."""
    settings = dataset.embeddings
    threads = settings.cpu_threads or cores
    key = (weights_identity(dataset.model), device, settings.precision, settings.reader_processes, cores, threads)
    if key not in _LOADED:
        from laion_assets.models.loading import load_model
        from laion_assets.stages.clip_embeddings.pipeline.pools import pool_starter

        _free_model()
        _LOADED[key] = load_model(
            dataset.model, device, settings.precision, pool_starter(settings.reader_processes, cores), threads
        )
    return _LOADED[key]


def _free_model() -> None:
    """Free the model of this process and its memory on the GPU, if it has one."""
    while _LOADED:
        _LOADED.popitem()[1].close()
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
