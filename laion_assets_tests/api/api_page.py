"""docs/api.md as data: each name with its signature and its example."""

import inspect
import re
from dataclasses import dataclass
from enum import EnumType
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent.parent.parent / "docs" / "api.md"
_SECTION = re.compile(
    r"^### (\w+)\n\n```text\n([^\n]+)\n```\n\n(.+?)\n\n```python\n(.+?)^```$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Section:
    """The section of one name."""

    name: str
    signature: str
    text: str
    example: str


def read_page() -> list[Section]:
    """The sections of the page, in order."""
    return [Section(*(part.rstrip() for part in found)) for found in _SECTION.findall(PAGE.read_text("utf-8"))]


def signature_of(name: str, value: Any) -> str:
    """The signature of a public name in docs/api.md: a class by its required arguments, an enum by its members.

    Types have their last name: `Table` for `pyarrow.lib.Table`.
    """
    if isinstance(value, EnumType):
        return f"{name}: {', '.join(value.__members__)}"
    signature = inspect.signature(value)
    if not isinstance(value, type):
        return f"{name}{_plain(str(signature))}"
    required = [
        str(parameter)
        for parameter in signature.parameters.values()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    optional = ["..."] if len(required) < len(signature.parameters) else []
    return _plain(f"{name}({', '.join([*required, *optional])})")


def _plain(text: str) -> str:
    return re.sub(r"\b(?:\w+\.)+(?=\w)", "", text.replace("'", ""))
