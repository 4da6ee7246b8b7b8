"""A running sample site, for the duration of a `with` block."""

import contextlib
import json
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from laion_assets.errors import SourceError
from laion_assets.processes.parent_death import import_path
from laion_assets.sample.answers import CRAWL_HOST, LISTING_PATH
from laion_assets.sample.pages import PAGES

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 3.0


@dataclass(frozen=True)
class RunningSite:
    """A site that answers requests: its port on 127.0.0.1 and its process."""

    port: int
    process_id: int
    source: str = f"http://{CRAWL_HOST}{LISTING_PATH}"
    """URL of the directory listing of the CSVs, reached through `resolve`."""

    @property
    def resolve(self) -> dict[str, str]:
        """Host pattern to `address:port`, for the setting `resolve` of a dataset."""
        return {"*.test": f"127.0.0.1:{self.port}"}


@contextlib.contextmanager
def running_site(pages: int = PAGES) -> Iterator[RunningSite]:
    """Start the site with the first `pages` pages, and stop it at the end of the block.

    Its process also ends when this process ends, even by a kill. Raises SourceError if the site does not start.
    """
    command = [sys.executable, "-m", "laion_assets.sample.site", "--port", "0", "--pages", str(pages)]
    environment = os.environ | {"PYTHONPATH": import_path()}
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    try:
        yield RunningSite(port=_read_port(process), process_id=process.pid)
    finally:
        _stop(process)


def _read_port(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        line = process.stdout.readline() if selector.select(START_TIMEOUT_S) else b""
    if not line:
        state = (
            f"exit status {process.poll()}" if process.poll() is not None else f"no answer within {START_TIMEOUT_S:g} s"
        )
        raise SourceError(
            f"The sample web site did not start ({state}). Run `python -m laion_assets.sample.site` to see why."
        )
    return int(json.loads(line)["port"])


def _stop(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
