"""A worker process: receives tasks and sends messages, outcomes and failures, until None or the parent's end.

python -m laion_assets.workers.child CONNECTION PARENT
"""

import sys

from laion_assets.processes.parent_death import end_with


def main() -> None:
    """Run tasks until the parent sends None, closes the connection, or ends."""
    end_with(int(sys.argv[2]))

    from multiprocessing.connection import Connection

    from laion_assets.workers.pool import work

    work(Connection(int(sys.argv[1])))


if __name__ == "__main__":
    main()
