"""A process that builds shards and is killed meanwhile: `python -m laion_assets_tests.kills.victim`.

It forks a run for each line of its standard input, the kind of the run. The run has its own session, and starts its own
worker processes as usual. The process prints the run's process id, and at its end the exit status (negative: a signal).
"""

import os
import pickle
import sys
from collections.abc import Callable

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import ShardError
from laion_assets.stages.image_shards.build import build_image_shards
from laion_assets.stages.image_shards.retry_reasons import retry_reasons


def serve(run: Callable[[Dataset, str], None]) -> None:
    """Fork a process that calls `run` with the dataset and the kind of the run, for each line of standard input."""
    with open(sys.argv[1], "rb") as file:
        dataset = pickle.load(file)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            os.setsid()
            _run(run, dataset, line.strip())
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _run(run: Callable[[Dataset, str], None], dataset: Dataset, kind: str) -> None:
    status = 3
    try:
        run(dataset, kind)
        status = 0
    except ShardError as error:
        print(error, file=sys.stderr)
        status = 1
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
    finally:
        os._exit(status)


def _build_shards(dataset: Dataset, kind: str) -> None:
    reasons = tuple(retry_reasons("failed")) if kind == "retried" else ()
    build_image_shards(dataset, range(dataset.layout.shards), lambda line: None, retry=reasons)


if __name__ == "__main__":
    serve(_build_shards)
