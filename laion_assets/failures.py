"""What a person reads of a failure: this project's own sentence first, a library's error only where it adds something.

A failed run is a chain of errors: Dagster's wrapper, ours, and the library's error that ours was raised from. The
sentence that helps (file, URL, setting, what to do) is in the outermost of our errors.
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

    `was_handled`: the error before it was raised while this one was handled, not from it.
    """

    kind: str
    text: str
    was_handled: bool = False

    @property
    def is_own(self) -> bool:
        """Whether it is an error of this project."""
        return self.kind.startswith(_OWN)

    @property
    def detail(self) -> str:
        """Class and text in one line of bounded length: of a longer text the first line and the last."""
        name = self.kind.rpartition(".")[2]
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        text = " ... ".join(dict.fromkeys((lines[0], lines[-1]))) if lines else ""
        return f"{name}: {text}"[:_DETAIL_CHARS] if text else name

    @classmethod
    def parse(cls, formatted: str, was_handled: bool) -> "Link":
        """The link from Python's text of an exception: `module.Class: text`, notes included."""
        first, newline, notes = formatted.strip().partition("\n")
        kind, _, text = first.partition(":")
        return cls(kind, f"{text.strip()}{newline}{notes}".strip(), was_handled)


def explain(error: "BaseException | SerializableErrorInfo") -> str:
    """Return one paragraph that says what went wrong: the text of the outermost of our errors, and its cause.

    The cause is appended only where our text does not repeat it. Without an error of ours, the innermost error.
    """
    chain = list(_links(error) if isinstance(error, BaseException) else _stored_links(error))
    outermost = next((place for place, link in enumerate(chain) if link.is_own), None)
    if outermost is None:
        return _caused(chain)[-1].detail
    text = chain[outermost].text
    for cause in _caused(chain[outermost:])[1:]:
        if _adds(cause, text):
            return f"{text.rstrip('.')}. Cause: {cause.text if cause.is_own else cause.detail}"
    return text


def is_interrupt(error: "SerializableErrorInfo") -> bool:
    """Whether a run ended by Ctrl-C or by a signal, whatever was raised meanwhile."""
    return any(
        link.kind.rpartition(".")[2] in ("KeyboardInterrupt", "DagsterExecutionInterruptedError")
        for link in _stored_links(error)
    )


def own_errors_first(function: FunctionT) -> FunctionT:
    """Make the failure of a step lead with our sentence in the Dagster UI, as `dagster.Failure` does.

    For what Dagster calls: assets, checks, and the methods of IO managers. Our error is the cause of the Failure.
    """

    @functools.wraps(function)
    def called(*arguments: object, **named: object) -> object:
        try:
            return function(*arguments, **named)
        except LaionAssetsError as error:
            import dagster as dg

            raise dg.Failure(explain(error)) from error

    return called  # type: ignore[return-value]


def _caused(chain: list[Link]) -> list[Link]:
    """The first error of a chain and those that it was raised from."""
    return [chain[0], *itertools.takewhile(lambda link: not link.was_handled, chain[1:])]


def _adds(cause: Link, text: str) -> bool:
    """Whether a cause says something that `text` does not: neither repeated in it, nor a wrapper around it."""
    said = cause.text.rstrip(".") or cause.detail
    first = said.splitlines()[0].strip().rstrip(".")
    return not (first in text or text in cause.text)


def _links(error: BaseException | None, was_handled: bool = False) -> Iterator[Link]:
    if error is not None:
        yield Link.parse("".join(traceback.format_exception_only(error)), was_handled)
        if error.__cause__ is not None:
            yield from _links(error.__cause__)
        elif not error.__suppress_context__:
            yield from _links(error.__context__, True)


def _stored_links(error: "SerializableErrorInfo | None", was_handled: bool = False) -> Iterator[Link]:
    if error is not None:
        yield Link.parse(error.message, was_handled)
        yield from _stored_links(error.cause) if error.cause is not None else _stored_links(error.context, True)
