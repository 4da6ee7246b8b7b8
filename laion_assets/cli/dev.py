"""`laion-assets dev`."""

import os
import sys

import click

from laion_assets.cli.output import echo
from laion_assets.orchestration.code_locations import known_locations, write_workspace
from laion_assets.orchestration.instance import dagster_home, instance

_QUIET = "ignore:Function `dev_command` is superseded:FutureWarning"
"""Dagster recommends `dg dev`, which loads one project and not a workspace."""


@click.command(short_help="Start the Dagster UI and daemon with all datasets.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of the Dagster UI. It has no login.")
@click.option("--port", "-p", type=click.IntRange(1, 65_535), default=3000, show_default=True, help="Port of the UI.")
@click.option("--verbose", is_flag=True, help="Show the log of Dagster's services, not only warnings and errors.")
def dev(host: str, port: int, verbose: bool) -> None:
    """Start the Dagster UI and the daemon with all built-in and declared datasets. Ctrl-C stops both.

    Works in any folder, with or without a checkout. The runs of `laion-assets demo` and `laion-assets materialize`
    appear there if they have the same Dagster instance: the folder DAGSTER_HOME, ./dagster_home by default. A new
    instance gets the settings of this project (docs/operations/production.md).
    """
    from laion_assets.orchestration.private_dagster import skip_older_run_events
    from laion_assets.server.run import bind

    bind(host, port).close()  # Dagster prints a traceback for a port in use
    home = dagster_home()
    with instance() as opened:
        skip_older_run_events(opened)
    workspace = write_workspace(home)
    echo(f"Dagster UI:       http://{f'[{host}]' if ':' in host else host}:{port} (Ctrl-C stops it)")
    echo(f"Dagster instance: {home}")
    echo(f"code locations:   {', '.join(known_locations())}")
    sys.stdout.flush()
    level = "info" if verbose else "warning"
    filters = [os.environ.get("PYTHONWARNINGS", ""), _QUIET]
    environment = {**os.environ, "PYTHONWARNINGS": ",".join(filter(None, filters))}
    options = ["--workspace", str(workspace), "--host", host, "--port", str(port), "--log-level", level]
    command = [sys.executable, "-m", "dagster", "dev", *options]
    os.execve(sys.executable, command, environment)  # noqa: S606 - it takes our place, and our terminal's Ctrl-C
