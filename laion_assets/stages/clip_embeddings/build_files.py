"""Build many embedding files: one after another in this process, in one process per device, or in Spark."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import EmbeddingNumber
from laion_assets.errors import EmbeddingError, ModelError, SettingError
from laion_assets.models.weights import weights_identity
from laion_assets.progress import Progress
from laion_assets.stages.clip_embeddings.distribution.devices import GPU, find_local_devices
from laion_assets.stages.clip_embeddings.distribution.task import (
    EmbeddingOutcome,
    EmbeddingTask,
    EncodedGroup,
    place_in_spark,
)
from laion_assets.stages.clip_embeddings.handle import CLIP_EMBEDDINGS
from laion_assets.store.manifest import Manifest
from laion_assets.store.store import Store
from laion_assets.workers.pool import available_cores, run_tasks
from laion_assets.workers.spark_tasks import run_tasks_in_spark
from laion_assets.workers.task import Task, TaskFailure

if TYPE_CHECKING:
    from laion_assets.models.clip_model import ClipModel

_NAMED_FAILURES = 10
_MEMORY_ADVICE = "lower embeddings.batch_size"
_OF_EVERY_FILE = frozenset(error.__name__ for error in (ModelError, SettingError))
"""Kinds of failures that the other files would share: a missing model, package, GPU or folder."""


def build_embedding_files(
    dataset: Dataset,
    embeddings: Sequence[int],
    load_model: "Callable[[], ClipModel]",
    log: Callable[[str], None],
    on_commit: Callable[[int, Manifest], None] = lambda embedding, manifest: None,
    spark: Callable[[], Any] | None = None,
) -> None:
    """Build these embedding files. Each is committed as soon as it is done; complete files are skipped.

    Without `embeddings.devices` and Spark, the model of `load_model` encodes one file after another in this process,
    and the first error is raised. Otherwise, if a file fails, the others continue, and at the end EmbeddingError names
    the failed files and the reasons. A failure that the other files would share (a missing model, package or GPU) ends
    the run at once. `spark` returns the session that runs the tasks if `embeddings.distributor` is spark. `on_commit`
    is called for each file, in this thread, with its number and manifest.
    """
    settings = dataset.embeddings
    numbers = [EmbeddingNumber(number) for number in embeddings]
    if settings.distributor == "spark":
        if spark is None:
            raise SettingError("embeddings.distributor is spark, but there is no Spark session. Set it to pool.")
        _Run(dataset, numbers, log, on_commit).run_in_spark(spark())
    elif settings.devices:
        _Run(dataset, numbers, log, on_commit).run_on_devices(find_local_devices(settings.devices))
    else:
        from laion_assets.stages.clip_embeddings.build import build_embedding_file

        for number in numbers:
            built = build_embedding_file(dataset, Store.of(dataset), number, load_model(), log)
            on_commit(number, built.manifest)


class _Run:
    """A run over several files at the same time: its progress and failures."""

    def __init__(
        self,
        dataset: Dataset,
        embeddings: Sequence[EmbeddingNumber],
        log: Callable[[str], None],
        on_commit: Callable[[int, Manifest], None],
    ) -> None:
        self._dataset, self._embeddings, self._log, self._on_commit = dataset, embeddings, log, on_commit
        self._remaining = {number: len(dataset.layout.shards_of_embedding(number)) for number in embeddings}
        self._encoded = dict.fromkeys(embeddings, 0)
        self._ended = 0
        self._progress = Progress(log, "shards", sum(self._remaining.values()), "samples")

    def run_on_devices(self, devices: Sequence[str]) -> None:
        """Build the files in one process per device of this machine, which share its cores."""
        devices = devices[: len(self._embeddings)]
        cores = max(1, available_cores() // max(1, len(devices)))
        self._log(f"{len(self._embeddings)} files on {', '.join(devices)}, cores per device: {cores}")

        def assign(task: Task[EmbeddingOutcome], place: int) -> Task[EmbeddingOutcome]:
            assert isinstance(task, EmbeddingTask)
            return replace(task, device=devices[place], cores=cores)

        failures = run_tasks(
            self._tasks(),
            len(devices) or 1,
            self._on_done,
            self._on_failed,
            on_message=self._on_message,
            assign=assign,
            memory_advice=_MEMORY_ADVICE,
        )
        self._raise_failures(failures)

    def run_in_spark(self, session: Any) -> None:
        """Build each file in one Spark task, on the GPU that Spark assigns to it."""
        amount = session.sparkContext.getConf().get(f"spark.task.resource.{GPU}.amount")
        device = self._dataset.embeddings.device
        if amount is None and device == "auto":
            self._log(f"spark.task.resource.{GPU}.amount is not set: Spark assigns no GPUs, and CPUs encode the files")
        failures = run_tasks_in_spark(
            self._tasks(),
            session,
            self._on_done,
            self._on_failed,
            name=CLIP_EMBEDDINGS,
            on_message=self._on_message,
            prepare=place_in_spark,
            memory_advice=_MEMORY_ADVICE,
            log=self._log,
        )
        self._raise_failures(failures)

    def _tasks(self) -> list[EmbeddingTask]:
        weights = weights_identity(self._dataset.model)
        return [EmbeddingTask(self._dataset, number, weights) for number in self._embeddings]

    def _on_message(self, number: int, message: Any) -> None:
        if isinstance(message, EncodedGroup):
            embedding = EmbeddingNumber(number)
            self._encoded[embedding] += message.samples
            # The last shard counts when the file is committed.
            self._count(embedding, min(message.shards, self._remaining[embedding] - 1), message.samples)
        else:
            self._log(str(message))

    def _on_done(self, outcome: EmbeddingOutcome) -> None:
        number, manifest = outcome.embedding, outcome.manifest
        self._on_commit(number, manifest)
        if outcome.was_built:
            rate = manifest.details.get("rows_per_second", 0)
            rows = manifest.counts.rows_out
            self._log(f"file {manifest.key}: {rows:,} rows on {outcome.place}, {rate:,.0f} samples/s")
        self._end(number, manifest.counts.rows_in - self._encoded[number] if outcome.was_built else 0)

    def _on_failed(self, failure: TaskFailure) -> None:
        if failure.kind in _OF_EVERY_FILE:
            raise EmbeddingError(
                f"{CLIP_EMBEDDINGS} {self._name(failure)} of {self._dataset.name} was not built, and the run was "
                f"ended, because other files would fail, too: {failure.message}"
            )
        self._log(f"file {self._name(failure)} failed: {failure.message}")
        self._end(EmbeddingNumber(failure.number))

    def _end(self, number: EmbeddingNumber, samples: int = 0) -> None:
        self._ended += 1
        self._count(number, self._remaining[number], samples)

    def _count(self, number: EmbeddingNumber, shards: int, samples: int) -> None:
        self._remaining[number] -= shards
        self._progress.add(shards, samples, f"{self._ended} of {len(self._embeddings)} files")

    def _name(self, failure: TaskFailure) -> str:
        is_elsewhere = failure.host and self._dataset.embeddings.distributor == "spark"
        return f"{failure.key} (on {failure.host})" if is_elsewhere else failure.key

    def _raise_failures(self, failures: list[TaskFailure]) -> None:
        if not failures:
            return
        named = "; ".join(f"{self._name(failure)}: {failure.message}" for failure in failures[:_NAMED_FAILURES])
        raise EmbeddingError(
            f"{len(failures)} of {len(self._embeddings)} embedding files of {self._dataset.name} failed, the others "
            f"are committed: {named}{' ...' if len(failures) > _NAMED_FAILURES else ''} Run the same partitions again: "
            "complete files are skipped."
        )
