"""Failure messages: the outermost of our errors is shown, however deep the chain and wherever it was raised."""

import itertools
import pickle
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from laion_assets import errors
from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import LaionAssetsError, SourceError
from laion_assets.failures import explain, own_errors_first
from laion_assets.orchestration.resources.run_log import run_log
from laion_assets.orchestration.runs import materialize_stage
from laion_assets.stages.dedup_parquet.build import _unwrap_errors
from laion_assets.stages.knn_indices.handle import KNN_INDICES
from laion_assets.workers.task import ignore, run_task

OWN = sorted(kind for kind, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception))
SENTENCE = "a.parquet is not a parquet file (row group 3). Replace or remove it."


def own(kind: str = "SourceError", sentence: str = SENTENCE) -> LaionAssetsError:
    error = getattr(errors, kind)(sentence)
    assert isinstance(error, LaionAssetsError)
    return error


def raised_from(*chain: BaseException) -> BaseException:
    """Chain errors: the first is raised from the second, the second from the third, and so on."""
    for outer, inner in itertools.pairwise(chain):
        outer.__cause__ = inner
    return chain[0]


def noted(error: BaseException, note: str) -> BaseException:
    error.add_note(note)
    return error


FOREIGN: dict[str, tuple[Callable[[], BaseException], str]] = {
    "one line": (lambda: OSError(111, "Connection refused"), "ConnectionRefusedError: [Errno 111] Connection refused"),
    "no text": (TimeoutError, "TimeoutError"),
    "no text, but notes": (lambda: noted(TimeoutError(), "The JVM said: no"), "TimeoutError: The JVM said: no"),
    "a key": (lambda: KeyError("uid"), "KeyError: 'uid'"),
    "many lines": (lambda: ValueError("first\n  at java.lang.X\nlast"), "ValueError: first ... last"),
    "one of a like name": (lambda: type("IntegrityError", (Exception,), {})("locked"), "IntegrityError: locked"),
}
"""Errors of libraries, and the text that is appended to our sentence."""


def run(dataset: Dataset, work: Callable[[], object], instance: dg.DagsterInstance) -> str:
    """Return what the command line prints for a run of `knn_indices` that does this work."""

    @dg.asset(key=[dataset.name, KNN_INDICES])
    @own_errors_first
    def knn_indices() -> None:
        work()

    definitions = dg.Definitions([knn_indices], loggers={"console": run_log}, executor=dg.in_process_executor)
    with pytest.raises(LaionAssetsError) as raised:
        materialize_stage(dataset, definitions, KNN_INDICES, instance)
    run_id = instance.get_runs(limit=1)[0].run_id
    return explain(raised.value).removeprefix(f"sample/knn_indices failed in run {run_id}: ")


def raising(error: BaseException) -> Callable[[], object]:
    def work() -> None:
        raise error

    return work


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("kind", OWN)
def test_our_error_comes_first_and_its_cause_follows(kind: str, foreign: str) -> None:
    make, appended = FOREIGN[foreign]
    expected = f"{SENTENCE.rstrip('.')}. Cause: {appended}"
    assert explain(raised_from(own(kind), make())) == expected
    assert explain(raised_from(RuntimeError("a wrapper"), own(kind), make())) == expected
    assert explain(raised_from(own(kind), own("ModelError", SENTENCE), make())) == expected


@pytest.mark.parametrize("foreign", FOREIGN)
def test_a_failed_run_shows_our_sentence(dataset: Dataset, foreign: str, capfd: pytest.CaptureFixture[str]) -> None:
    make, appended = FOREIGN[foreign]
    with dg.DagsterInstance.ephemeral() as instance:
        wanted = run(dataset, raising(raised_from(own(), make())), instance)
        assert wanted == f"{SENTENCE.rstrip('.')}. Cause: {appended}"
        assert capfd.readouterr().err == "", "the command line prints the sentence once"
        (failure,) = [
            record.event_log_entry.dagster_event
            for record in instance.get_records_for_run(instance.get_runs()[0].run_id).records
            if record.event_log_entry.dagster_event and record.event_log_entry.dagster_event.is_step_failure
        ]
    data = failure.step_failure_data
    assert data.error.message.startswith(f"dagster._core.definitions.events.Failure: {SENTENCE.rstrip('.')}")
    assert data.user_failure_data.description == wanted


def test_a_cause_that_our_sentence_repeats_is_left_out() -> None:
    cause = OSError(111, "Connection refused")
    assert explain(raised_from(own(sentence=f"http://a.test/ cannot be read: {cause}."), cause)).count("refused") == 1
    assert explain(raised_from(own(), RuntimeError(f"PythonException: {SENTENCE}"))) == SENTENCE
    assert explain(own()) == SENTENCE


def test_handled_error_is_not_shown_as_cause() -> None:
    def handled() -> None:
        try:
            raise KeyError("an older try")
        except KeyError:
            raise own() from None

    def while_handling() -> None:
        try:
            raise own()
        except SourceError:
            raise OSError("the folder cannot be removed")  # noqa: B904

    with pytest.raises(SourceError) as raised:
        handled()
    assert explain(raised.value) == SENTENCE
    with pytest.raises(OSError, match="folder") as removing:
        while_handling()
    assert explain(removing.value) == SENTENCE, "the first error is shown"


def test_without_our_own_error_the_innermost_is_shown(dataset: Dataset) -> None:
    error = raised_from(RuntimeError("a wrapper"), OSError(28, "No space left on device"))
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(dataset, raising(error), instance) == "OSError: [Errno 28] No space left on device"


class FailingTask:
    """A task that raises a chain of errors in a worker."""

    number, key = 3, "00003"

    def run(self, send: Any) -> Any:
        raise raised_from(own(), OSError(111, "Connection refused"))


def test_failure_of_a_worker_has_our_sentence_and_its_cause() -> None:
    failure = pickle.loads(pickle.dumps(run_task(FailingTask(), ignore)))
    assert failure.message == f"{SENTENCE.rstrip('.')}. Cause: ConnectionRefusedError: [Errno 111] Connection refused"


def test_a_chain_that_crosses_spark_keeps_its_outermost_error(dataset: Dataset, spark: Any) -> None:
    """The error is raised in a Python worker. Spark returns a text of all tracebacks to the driver."""

    def fail(numbers: Any) -> Any:
        from laion_assets.errors import SettingError, SourceError

        try:
            try:
                raise ValueError("magic bytes not found")
            except ValueError as error:
                raise SettingError("an inner sentence of ours") from error
        except SettingError as error:
            raise SourceError(SENTENCE) from error

    def work() -> None:
        with _unwrap_errors():
            spark.sparkContext.parallelize([0], 1).mapPartitions(fail).collect()

    with dg.DagsterInstance.ephemeral() as instance:
        assert run(dataset, work, instance) == SENTENCE
