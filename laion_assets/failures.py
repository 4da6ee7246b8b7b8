"""Failure messages: the sentence of this project first, the error of a library only if it adds something.

A failed run is a chain of errors: Dagster's wrapper, ours, and the library error that ours was raised from. The useful
sentence (file, URL, setting, fix) is in the outermost of our errors.
"""

import functools
import itertools
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from laion_assets import errors
from laion_assets.errors import LaionAssetsError

if TYPE_CHECKING:
    from dagster_shared.error import SerializableErrorInfo

FunctionT = TypeVar("FunctionT", bound=Callable)
_OWN = f"{errors.__name__}."
_DETAIL_CHARS = 300


@dataclass(frozen=True)
class Link:
    """One error of a chain: its qualified class name, and its text without the name.

    `was_handled`: the previous error of the chain was raised while this one was handled, not from this one.
    """

    kind: str
    text: str
    was_handled: bool = False

    @property
    def is_own(self) -> bool:
        """Whether this is an error of this project."""
        return self.kind.startswith(_OWN)

    @property
    def detail(self) -> str:
        """Class and text in one line of bounded length. Of a longer text, the first and the last line."""
        name = self.kind.rpartition(".")[2]
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        text = " ... ".join(dict.fromkeys((lines[0], lines[-1]))) if lines else ""
        return f"{name}: {text}"[:_DETAIL_CHARS] if text else name

    @classmethod
    def parse(cls, formatted: str, was_handled: bool) -> "Link":
        """Parse an exception as Python formats it: `module.Class: text`, notes included."""
        first, newline, notes = formatted.strip().partition("\n")
        kind, _, text = first.partition(":")
        return cls(kind, f"{text.strip()}{newline}{notes}".strip(), was_handled)


def explain(error: "BaseException | SerializableErrorInfo") -> str:
    """Return one paragraph that says what failed: the text of the outermost of our errors, and its cause.

    The cause is appended only if our text does not repeat it. Without an error of ours, return the innermost error.
    """
    chain = list(_walk(error) if isinstance(error, BaseException) else _walk_stored(error))
    outermost = next((position for position, link in enumerate(chain) if link.is_own), None)
    if outermost is None:
        return _take_causes(chain)[-1].detail
    text = chain[outermost].text
    for cause in _take_causes(chain[outermost:])[1:]:
        if _adds_to(cause, text):
            return f"{text.rstrip('.')}. Cause: {cause.text if cause.is_own else cause.detail}"
    return text


def is_interrupt(error: "SerializableErrorInfo") -> bool:
    """Return whether a run was ended by Ctrl-C or a signal, even if other errors followed."""
    return any(
        link.kind.rpartition(".")[2] in ("KeyboardInterrupt", "DagsterExecutionInterruptedError")
        for link in _walk_stored(error)
    )


def own_errors_first(function: FunctionT) -> FunctionT:
    """Decorate a function that Dagster calls so that the Dagster UI shows our sentence first.

    For assets, checks and the methods of IO managers. The function raises `dagster.Failure`, with our error as cause.
    """

    @functools.wraps(function)
    def call(*arguments: object, **named: object) -> object:
        try:
            return function(*arguments, **named)
        except LaionAssetsError as error:
            import dagster as dg

            raise dg.Failure(explain(error)) from error

    return call  # type: ignore[return-value]


def _take_causes(chain: list[Link]) -> list[Link]:
    """Return the first error of a chain and those that it was raised from."""
    return [chain[0], *itertools.takewhile(lambda link: not link.was_handled, chain[1:])]


def _adds_to(cause: Link, text: str) -> bool:
    """Whether a cause adds something to `text`: it is neither repeated in the text, nor a wrapper around it."""
    message = cause.text.rstrip(".") or cause.detail
    first = message.splitlines()[0].strip().rstrip(".")
    return not (first in text or text in cause.text)


def _walk(error: BaseException | None, was_handled: bool = False) -> Iterator[Link]:
    if error is not None:
        yield Link.parse("".join(traceback.format_exception_only(error)), was_handled)
        if error.__cause__ is not None:
            yield from _walk(error.__cause__)
        elif not error.__suppress_context__:
            yield from _walk(error.__context__, True)


def _walk_stored(error: "SerializableErrorInfo | None", was_handled: bool = False) -> Iterator[Link]:
    if error is not None:
        yield Link.parse(error.message, was_handled)
        yield from _walk_stored(error.cause) if error.cause is not None else _walk_stored(error.context, True)
