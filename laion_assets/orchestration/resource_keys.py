"""Keys of the resources of a dataset: each has the dataset's name, so that one project can hold several datasets."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import dagster as dg

from laion_assets.dataset.dataset import Dataset

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def resource_key(dataset: Dataset, name: str) -> str:
    """The key of a dataset's resource: `sample_spark`."""
    return f"{dataset.name}_{name}"


def require_resources(dataset: Dataset) -> Callable[[FunctionT], FunctionT]:
    """Map the resource parameters of an asset or check to the dataset's resources: `spark` to `sample_spark`.

    Dagster takes the key of a resource from the name of the parameter.
    """

    def decorate(function: FunctionT) -> FunctionT:
        signature = inspect.signature(function)
        keys = {
            name: resource_key(dataset, name)
            for name, parameter in signature.parameters.items()
            if isinstance(parameter.annotation, type) and issubclass(parameter.annotation, dg.ConfigurableResource)
        }
        names = {key: name for name, key in keys.items()}

        @functools.wraps(function)
        def wrapper(*arguments: Any, **named: Any) -> Any:
            return function(*arguments, **{names.get(name, name): value for name, value in named.items()})

        parameters = [each.replace(name=keys.get(each.name, each.name)) for each in signature.parameters.values()]
        wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        wrapper.__annotations__ = {keys.get(name, name): kind for name, kind in function.__annotations__.items()}
        return wrapper  # type: ignore[return-value]

    return decorate
