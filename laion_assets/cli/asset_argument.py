"""The arguments ASSET and ASSETS of the commands: names of assets."""

import difflib
from typing import Any

import click


class AssetName(click.Choice[str]):
    """The name of an asset. The error for an unknown name suggests a similar one."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Return the error message for an unknown name."""
        near = difflib.get_close_matches(str(value), self.choices, 1)
        return (
            f"Unknown asset {value!r}.{f' Did you mean {near[0]}?' if near else ''} Choose from "
            f"{', '.join(self.choices)}."
        )
