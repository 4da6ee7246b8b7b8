"""The command line `laion-assets`.

Exit status: 0 success, 1 failure (the message says what failed, where, and how to fix it), 2 wrong usage, 130 Ctrl-C.
"""

import atexit
import contextlib
import os
import signal
import sys
import traceback
from typing import NoReturn

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("WANDB_MODE", "disabled")

import click

from laion_assets import __version__
from laion_assets.cli.adopt import adopt
from laion_assets.cli.demo import demo
from laion_assets.cli.dev import dev
from laion_assets.cli.export import export
from laion_assets.cli.fetch import fetch
from laion_assets.cli.init import init
from laion_assets.cli.materialize import materialize
from laion_assets.cli.output import echo, echo_traceback, echo_usage_error
from laion_assets.cli.relayout import relayout
from laion_assets.cli.search import search
from laion_assets.cli.serve import serve
from laion_assets.cli.settings import settings
from laion_assets.cli.statistics import statistics
from laion_assets.cli.status import status
from laion_assets.cli.trace import trace
from laion_assets.cli.utf8 import use_utf8
from laion_assets.dataset.built_in import SAMPLE
from laion_assets.errors import LaionAssetsError
from laion_assets.failures import explain
from laion_assets.orchestration.writable_folders import describe
from laion_assets.stages.registry import pipeline_names

HELP = f"""Rebuild a LAION-style image-text dataset, from crawl CSVs to a searchable CLIP index.

\b
Pipeline stages, one Dagster asset each:
  {" -> ".join(pipeline_names(SAMPLE))} -> search

\b
Start here:
  laion-assets demo                                 the whole pipeline on the embedded sample, offline
  laion-assets dev                                  the Dagster UI with all datasets
  laion-assets search --dataset sample "a red circle left of a blue square"
  laion-assets serve --dataset sample               the search page and API, at http://127.0.0.1:8000
  laion-assets export --where "original_width >= 300" --output wide    images as webdataset shards, or lists
  laion-assets status --dataset sample              complete, stale and missing partitions
  laion-assets statistics --dataset sample          counts, quantiles, and the path of the HTML report
\b
Then your own data:
  laion-assets init mine --from FOLDER              declare a folder of parquet, CSV or JSON lines files
  laion-assets settings --dataset laion400m         every setting, its value and its origin
  laion-assets fetch https://example.org/a.jpg      dry-run one URL
  laion-assets materialize --dataset laion400m dedup_parquet
\b
Settings come from ./laion-assets.toml (or the file named by LAION_ASSETS_SETTINGS) and from LAION_ASSETS_...
variables. Files are written below the setting `root` (./data).
Exit status: 0 success, 1 failure, 2 wrong usage, 130 Ctrl-C.
"""


@click.group(help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, "--version", "-V", prog_name="laion-assets")
def cli() -> None:
    """Group all commands."""


for command in (
    demo,
    dev,
    init,
    materialize,
    relayout,
    adopt,
    status,
    statistics,
    search,
    serve,
    export,
    fetch,
    trace,
    settings,
):
    cli.add_command(command)


def main() -> None:
    """Run a command, then end the process with its exit status. The entry point of `laion-assets`.

    The interpreter is not finalized. A thread of pyarrow's pool may drop its last reference to a Python file during
    finalization. It then requests the lock of an interpreter that no longer exists, and the process aborts (SIGABRT).
    """
    use_utf8()
    status: str | int | None = 0
    try:
        run_command()
    except SystemExit as ended:
        status = ended.code
    except KeyboardInterrupt:  # a second Ctrl-C before the handler of the first one started
        status = 130
    except BaseException:
        traceback.print_exc()
        status = 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C during the short cleanup would print a traceback
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


def run_command() -> NoReturn:
    """Run the command in `sys.argv`. Print an error as one sentence, and raise SystemExit with the exit status."""
    # Background jobs of a script start with SIGINT ignored. Dagster then also ignores SIGTERM after its first run, and
    # `kill` would no longer end this process.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.exit(cli(standalone_mode=False))  # click's Exit has a status; a command returns None
    except click.ClickException as error:
        echo_usage_error(error)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _exit_interrupted()
    except LaionAssetsError as error:
        _exit_failed(explain(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _exit_failed(describe(error))
    except Exception as error:
        if type(error).__name__ == "DagsterExecutionInterruptedError":
            _exit_interrupted()
        echo_traceback(error)
        sys.exit(1)


def _exit_failed(sentence: str) -> NoReturn:
    echo(f"laion-assets: {sentence}", fg="red", err=True)
    sys.exit(1)


def _exit_interrupted() -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    echo(err=True)
    echo(
        "laion-assets: interrupted. Every committed partition is kept. Run the same command again to continue.",
        fg="yellow",
        err=True,
    )
    sys.exit(130)
