"""A process that builds shards and is killed meanwhile: `python -m laion_assets_tests.kills.victim`.

It forks a run for each line of its standard input, `build` or `retry`. The run has its own session, and starts its own
worker processes as usual. The process prints the run's process id, and at its end the exit status (negative: a signal).
"""

import os
import pickle
import sys

from laion_assets.errors import ShardError
from laion_assets.stages.image_shards.build import build_image_shards
from laion_assets.stages.image_shards.retry_reasons import retry_reasons


def main() -> None:
    with open(sys.argv[1], "rb") as file:
        datasets = pickle.load(file)
    for line in sys.stdin:
        child = os.fork()
        if not child:
            os.setsid()
            _run(datasets, line.strip() == "retry")
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _run(dataset, retry: bool) -> None:  # type: ignore[no-untyped-def]
    status = 3
    try:
        reasons = tuple(retry_reasons("failed")) if retry else ()
        build_image_shards(dataset, range(dataset.layout.shards), lambda line: None, retry=reasons)
        status = 0
    except ShardError as error:
        print(error, file=sys.stderr)
        status = 1
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
