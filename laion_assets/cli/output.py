"""Everything that the commands print: text as lines whose every character is visible, and exact JSON.

Captions, URLs, response headers and errors that quote them are printed here and nowhere else, so that none of them
reaches a terminal with its control characters.
"""

import io
import json
import traceback
from typing import Any

import click

from laion_assets.plain_text import for_json, one_line


def echo(text: object = "", *, nl: bool = True, err: bool = False, **style: Any) -> None:
    """Print one line. `style` is click's (`fg`, `bold`, `dim`); a newline within `text` is shown as `\\n`."""
    click.secho(one_line(text), nl=nl, err=err, **style)


def echo_json(value: Any) -> None:
    """Print a value as JSON, characters that a terminal would act on as `\\u` escapes."""
    click.echo(for_json(json.dumps(value, indent=2, ensure_ascii=False, default=str)))


def echo_usage_error(error: click.ClickException) -> None:
    """Print click's message and the usage that it belongs to, on stderr."""
    shown = io.StringIO()
    error.show(shown)
    for line in shown.getvalue().removesuffix("\n").expandtabs().split("\n"):
        echo(line, err=True)


def echo_traceback(error: BaseException) -> None:
    """Print an unexpected error as Python does, on stderr."""
    for part in traceback.format_exception(error):
        for line in part.removesuffix("\n").split("\n"):
            echo(line, err=True)
