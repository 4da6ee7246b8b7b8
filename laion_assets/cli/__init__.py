"""The command line `laion-assets`.

Exit status: 0 done, 1 failed (the message says what, where and what to do), 2 wrong usage, 130 ended by Ctrl-C.
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
from laion_assets.cli.demo import demo
from laion_assets.cli.fetch import fetch
from laion_assets.cli.materialize import materialize
from laion_assets.cli.output import echo, echo_traceback, echo_usage_error
from laion_assets.cli.search import search
from laion_assets.cli.settings import settings
from laion_assets.cli.statistics import statistics
from laion_assets.cli.status import status
from laion_assets.cli.trace import trace
from laion_assets.cli.utf8 import use_utf8
from laion_assets.errors import LaionAssetsError
from laion_assets.failures import explain
from laion_assets.orchestration.writable_folders import describe

HELP = """Rebuild a LAION-style image-text dataset, from crawl CSVs to a searchable CLIP index.

\b
Pipeline stages, one Dagster asset each:
  raw_csv -> dedup_parquet -> image_shards -> clip_embeddings -> knn_indices -> search

\b
Start here:
  laion-assets demo                                 the whole pipeline on the embedded sample, offline
  laion-assets search --dataset sample "a red circle left of a blue square"
  laion-assets status --dataset sample              complete, stale and missing partitions
  laion-assets statistics --dataset sample          counts and quantiles; where the report is
\b
Then your own data:
  laion-assets settings --dataset laion400m         every setting, its value and its origin
  laion-assets fetch https://example.org/a.jpg      dry-run one URL
  laion-assets materialize --dataset laion400m dedup_parquet
\b
Settings come from laion-assets.toml here (or the file LAION_ASSETS_SETTINGS names) and from LAION_ASSETS_...
variables; files go below the setting `root` (./data). Exit status: 0 done, 1 failed, 2 wrong usage, 130 Ctrl-C.
"""


@click.group(help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, "--version", "-V", prog_name="laion-assets")
def cli() -> None:
    """The group of all commands."""


for command in (demo, materialize, status, statistics, search, fetch, trace, settings):
    cli.add_command(command)


def main() -> None:
    """Entry point: run a command, then end the process with its exit status.

    The interpreter is not finalized: a thread of pyarrow's pool that drops its last reference to a Python file at that
    moment asks for the lock of an interpreter that is gone, and the process aborts (SIGABRT) after its output.
    """
    use_utf8()
    status: str | int | None = 0
    try:
        run_command()
    except SystemExit as ended:
        status = ended.code
    except KeyboardInterrupt:  # a second Ctrl-C, before the first one's handler had begun
        status = 130
    except BaseException:
        traceback.print_exc()
        status = 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # cleaning up is short; a Ctrl-C in it would print its traceback
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status if isinstance(status, int) else int(status is not None))


def run_command() -> NoReturn:
    """Run the command that `sys.argv` names; errors become one sentence, and SystemExit has the status."""
    # A script's background jobs start with SIGINT ignored; Dagster gives SIGTERM the same fate after its first run,
    # so that `kill` would no longer end us.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.exit(cli(standalone_mode=False))  # the status of click's Exit; a command itself returns None
    except click.ClickException as error:
        echo_usage_error(error)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        _interrupted()
    except LaionAssetsError as error:
        _failed(explain(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _failed(describe(error))
    except Exception as error:
        if type(error).__name__ == "DagsterExecutionInterruptedError":
            _interrupted()
        echo_traceback(error)
        sys.exit(1)


def _failed(sentence: str) -> NoReturn:
    echo(f"laion-assets: {sentence}", fg="red", err=True)
    sys.exit(1)


def _interrupted() -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    echo(err=True)
    echo(
        "laion-assets: interrupted; every finished partition is kept, the same command goes on from there.",
        fg="yellow",
        err=True,
    )
    sys.exit(130)
