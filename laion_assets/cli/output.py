"""The output of all commands: lines of visible characters, and exact JSON.

Captions, URLs, response headers, and errors that quote them are printed only here. So none of them reaches a terminal
with control characters.
"""

import io
import json
import traceback
from typing import Any

import click

from laion_assets.plain_text import for_json, one_line


def echo(text: object = "", *, nl: bool = True, err: bool = False, **style: Any) -> None:
    """Print one line. `style` is passed to click (`fg`, `bold`, `dim`). A newline in `text` is printed as `\\n`."""
    click.secho(one_line(text), nl=nl, err=err, **style)


def echo_json(value: Any) -> None:
    """Print a value as JSON. Control characters are printed as `\\u` escapes."""
    click.echo(for_json(json.dumps(value, indent=2, ensure_ascii=False, default=str)))


def echo_usage_error(error: click.ClickException) -> None:
    """Print the usage and the message of a click error to stderr."""
    shown = io.StringIO()
    error.show(shown)
    for line in shown.getvalue().removesuffix("\n").expandtabs().split("\n"):
        echo(line, err=True)


def echo_traceback(error: BaseException) -> None:
    """Print the traceback of an unexpected error to stderr."""
    for part in traceback.format_exception(error):
        for line in part.removesuffix("\n").split("\n"):
            echo(line, err=True)
