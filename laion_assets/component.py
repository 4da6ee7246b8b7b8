"""The Dagster component: a dataset in another Dagster project, declared in a `defs.yaml`.

    type: laion_assets.DatasetComponent
    attributes:
      name: cats
      source: /data/cats/csv
      root: /data
      layout: {parquet_files: 4, shards: 100, embedding_files: 10, rows_per_shard: 10000}
      images: {image_size: 384}

The attributes are the fields of `Dataset`, with the groups of settings as mappings. docs/component.md describes them.
"""

import dataclasses
from pathlib import Path
from typing import Self

import dagster as dg
from pydantic import BaseModel

from laion_assets.component_attributes import attributes_model, resolve_dataset
from laion_assets.dataset.dataset import Dataset

SCAFFOLD = """\
# A dataset that runs offline: the source is a small embedded web site, the model a small CLIP. Replace both, and the
# counts. Every setting of `laion-assets settings` can be set here, under the name of its group (images, index, ...).
type: {type}

attributes:
  name: {name}
  description: Image-text pairs, from crawl CSVs to a searchable CLIP index.
  source: "sample-site:"  # a folder, the URL of a listing, or list:FILE
  root: "{{{{ context.project_root }}}}/data"
  model: sample-clip  # or ViT-B/32, open_clip:ARCH/TAG
  layout:
    parquet_files: 4
    shards: 24
    embedding_files: 6
    rows_per_shard: 250
"""


class DatasetScaffolder(dg.Scaffolder):
    """Writes a `defs.yaml` that is complete: it loads, and runs on the embedded sample."""

    def scaffold(self, request: dg.ScaffoldRequest) -> None:
        """Write `defs.yaml`, or `component.py` with `--format python`."""
        if request.scaffold_format == "python":
            dg.scaffold_component(request, {})
            return
        name = "".join(sign if sign.isalnum() and sign.isascii() else "_" for sign in request.target_path.name)
        text = SCAFFOLD.format(type=request.type_name, name=name if name[:1].isalpha() else f"dataset_{name}")
        if request.append:
            with Path(request.target_path).open("a", encoding="utf-8") as file:
                file.write(f"---\n{text}")
        else:
            (request.target_path / "defs.yaml").write_text(text, encoding="utf-8")


@dg.scaffold_with(DatasetScaffolder)
@dataclasses.dataclass
class DatasetComponent(dg.Component, dg.Resolvable):
    """A LAION-style image-text dataset: raw CSVs, unique rows, image shards, CLIP embeddings, search indices.

    Declare it in a `defs.yaml`, or in Python as `DatasetComponent(Dataset(...))`. The settings file and the environment
    apply to it as to every dataset: they override its attributes.
    """

    dataset: Dataset

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        """Describe the component for the Dagster UI."""
        return dg.ComponentTypeSpec(
            tags=["images", "datasets"], produces=["asset", "asset_check", "job", "schedule", "sensor", "resource"]
        )

    @classmethod
    def model(cls) -> type[BaseModel]:
        """The attributes of `defs.yaml`, derived from the fields of `Dataset` and of its groups of settings."""
        return attributes_model()

    @classmethod
    def resolve_from_model(cls, context: dg.ResolutionContext, model: BaseModel) -> Self:
        """Return the component of the attributes. Raises LaionAssetsError naming the file and the line."""
        return cls(resolve_dataset(context, model))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the assets, checks, jobs, schedule, sensors and resources of the dataset.

        The executor and the loggers are those of the project.
        """
        from laion_assets.orchestration.definitions import build_definitions

        found = build_definitions(self.dataset)
        return dg.Definitions(
            assets=found.assets,
            asset_checks=found.asset_checks,
            jobs=found.jobs,
            schedules=found.schedules,
            sensors=found.sensors,
            resources=found.resources,
        )
