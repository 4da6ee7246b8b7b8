"""The attributes of a `DatasetComponent`, derived from the dataclasses of a dataset and its settings.

A new setting needs no line here. Types are checked twice: by the model, whose JSON schema `dg check yaml` and editors
use, and after templates (`{{ env.ROOT }}`) are filled in, by the same checks as for the settings file.
"""

import dataclasses
import difflib
import functools
from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator
from pydantic_core import InitErrorDetails

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.embedding_set import GROUPS, EmbeddingSet, is_set_setting
from laion_assets.dataset.layout import Layout
from laion_assets.dataset.settings.field import allowed_values, format_value, parse_type
from laion_assets.dataset.settings.values import convert
from laion_assets.errors import LaionAssetsError, LayoutError, SettingError

LAYOUT_HELP = {
    "parquet_files": "parquet files of unique rows: the partitions of dedup_parquet",
    "shards": "webdataset shards: the partitions of image_shards",
    "embedding_files": "embedding files",
    "rows_per_shard": "most rows of a shard, 1 to 10,000",
}


class _Attributes(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, values: Any) -> Any:
        unknown = [name for name in values if name not in cls.model_fields] if isinstance(values, dict) else []
        if unknown:
            details = [
                InitErrorDetails(
                    type="value_error", loc=(name,), input=values[name], ctx={"error": ValueError(cls._advice(name))}
                )
                for name in unknown
            ]
            raise ValidationError.from_exception_data(cls.__name__, details)
        return values

    @classmethod
    def _advice(cls, name: str) -> str:
        near = difflib.get_close_matches(str(name), cls.model_fields, 3, 0.6)
        if not near:
            return f"unknown attribute {name!r}. Choose from {', '.join(cls.model_fields)}."
        return f"unknown attribute {name!r}. Did you mean {' or '.join(near)}?"


@functools.cache
def attributes_model() -> type[BaseModel]:
    """Return the pydantic model of the attributes."""
    counts: dict[str, Any] = {name: (int | str, Field(description=text)) for name, text in LAYOUT_HELP.items()}
    layout = create_model("LayoutAttributes", __base__=_Attributes, **counts)
    return _group_model(
        Dataset,
        "DatasetAttributes",
        name=(str, Field(description="name of the dataset: letters, digits and underscores, a letter first")),
        description=(str, Field(default="", description="one line on the dataset for the Dagster UI")),
        layout=(layout, Field(description="the counts of files and shards; they do not follow from the rows")),
        embedding_sets=(
            dict[str, _embedding_set_model()],  # type: ignore[misc]
            Field(default={}, description="further models over the same images: name -> model and its own settings"),
        ),
    )


def _embedding_set_model() -> type[BaseModel]:
    model = (str, Field(description=_description(Dataset.__dataclass_fields__["model"])))
    return _group_model(Dataset, "EmbeddingSetAttributes", is_set_setting, model=model)


def _group_model(
    kind: type, title: str, keep: Callable[[str], bool] = lambda name: True, **own: Any
) -> type[BaseModel]:
    """Return the model of a settings dataclass: each setting is optional, each group in it a model.

    `keep` says which settings and groups it has.
    """
    fields: dict[str, Any] = dict(own)
    for field in dataclasses.fields(kind):
        if field.name in own or not keep(field.name):
            continue
        if "help" in field.metadata:
            fields[field.name] = (_yaml_type(field), Field(default=None, description=_description(field)))
        elif isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            group = _group_model(field.type, f"{field.type.__name__}Attributes")
            text = f"settings of {field.name}"
            fields[field.name] = (group, Field(default=None, description=text))
    return create_model(title, __base__=_Attributes, **fields)


def _yaml_type(field: "dataclasses.Field[Any]") -> Any:
    """Return the type of a setting in YAML: its own, or a text, which can be a template."""
    base, item, _ = parse_type(field)
    if base is tuple:
        return list[item | str] | str | None  # type: ignore[valid-type]
    if base is dict:
        return dict[str, Any] | str | None
    return str | None if base is str else base | str | None


def _description(field: "dataclasses.Field[Any]") -> str:
    allowed = allowed_values(field)
    unit = f" {field.metadata['unit']}" if field.metadata["unit"] else ""
    default = "" if field.default in (dataclasses.MISSING, "", (), None) else f"; default {field.default}"
    return f"{field.metadata['help']}{f' ({allowed}{unit})' if allowed else ''}{default}"


def resolve_dataset(context: dg.ResolutionContext, model: BaseModel) -> Dataset:
    """Return the dataset of these attributes, its templates filled in.

    Raises SettingError or LayoutError naming the attribute, the file and the line.
    """
    values = dict(context.resolve_value(model.model_dump(exclude_unset=True)))
    name, description = str(values.pop("name")), str(values.pop("description", ""))
    layout = _layout(context, values.pop("layout"))
    sets = values.pop("embedding_sets", {})
    bare = _locate_errors(context, "name", lambda: Dataset(name=name, description=description, layout=layout))
    dataset: Dataset = _with_values(context, bare, values, "")
    found = tuple(_embedding_set(context, dataset, name, own) for name, own in sets.items())
    return _locate_errors(context, "embedding_sets", lambda: dataclasses.replace(dataset, embedding_sets=found))


def _embedding_set(
    context: dg.ResolutionContext, dataset: Dataset, name: str, values: Mapping[str, Any]
) -> EmbeddingSet:
    groups = {
        group: _with_values(context, getattr(dataset, group), values[group], f"embedding_sets.{name}.{group}.")
        for group in GROUPS
        if values.get(group)
    }
    return EmbeddingSet(name, str(values["model"]), **groups)


def _layout(context: dg.ResolutionContext, values: Mapping[str, Any]) -> Layout:
    counts: dict[str, Any] = {}
    for name, value in values.items():
        counts[name] = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
        if not isinstance(counts[name], int):
            where = _where(context, f"layout.{name}")
            raise LayoutError(f"layout.{name} is {format_value(value)} (from {where}): it must be an integer.")
    return _locate_errors(context, "layout", lambda: Layout(**counts))


def _with_values(context: dg.ResolutionContext, group: Any, values: Mapping[str, Any], prefix: str) -> Any:
    """Return a settings dataclass with the values of its attributes; None means the default."""
    changes: dict[str, Any] = {}
    for field in dataclasses.fields(group):
        value, name = values.get(field.name), f"{prefix}{field.name}"
        if value is None:
            continue
        if "help" in field.metadata:
            is_text = isinstance(value, str) and parse_type(field)[0] is not tuple
            changes[field.name] = convert(name, value, field, _where(context, name), is_text=is_text)
        else:
            changes[field.name] = _with_values(context, getattr(group, field.name), value, f"{name}.")
    if not changes:
        return group
    return _locate_errors(context, prefix.rstrip("."), lambda: dataclasses.replace(group, **changes))


def _locate_errors(context: dg.ResolutionContext, name: str, build: Any) -> Any:
    """Return what `build` returns. Its error gets the file and the line of an attribute."""
    try:
        return build()
    except LaionAssetsError as error:
        kind = type(error) if isinstance(error, LayoutError) else SettingError
        raise kind(f"{error} ({_where(context, name)})") from error


def _where(context: dg.ResolutionContext, name: str) -> str:
    """Return `FILE:LINE` of an attribute, or its name if it does not come from a file."""
    if context.source_position_tree is None:
        return f"attribute {name}" if name else "the attributes"
    path = ["attributes", *name.split(".")] if name else ["attributes"]
    position, _ = context.source_position_tree.lookup_closest_and_path(path, None)
    return str(position)
