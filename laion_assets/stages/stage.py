"""One stage of the pipeline, described once.

Everything else derives from these descriptions: the Dagster graph, its partitions and mappings, status, digests,
checks, the command line and the table in the documentation. To add a stage, write a folder with a `stage.py` that holds
a `Stage`, and name that in `laion_assets.stages.registry`.

A description imports neither Dagster nor the stage's work: worker processes import it, too. What Dagster needs of the
stage is named by reference (`package.module:name`) and imported by `laion_assets.orchestration.stage_parts`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout
from laion_assets.dataset.settings.field import compute_digest
from laion_assets.stages.handle import Handle
from laion_assets.store.manifest import Manifest

NOTHING = range(0)
UNCHECKED_INPUTS = "unchecked"
"""The input digest of an adopted partition whose input was not committed when it was adopted."""


@dataclass(frozen=True)
class Stage:
    """A stage: its name, files, partitions, inputs, and the settings that change its bytes.

    Required: `handle` names its files and partitions. `description` is markdown for the Dagster UI; its first line is
    the stage in one sentence. `invariant` is the sentence that its row-count check verifies. `byte_settings` returns
    the values whose digest makes older partitions stale. `asset`, `io_manager` and `check` are references: a function
    from a Dataset to the asset's definition, a subclass of `PartitionIOManager`, and a function that yields problems of
    a partition.
    """

    handle: type[Handle]
    description: str
    invariant: str
    byte_settings: Callable[[Dataset], dict[str, Any]]
    asset: str
    io_manager: str
    check: str

    kinds: tuple[str, ...] = ()
    """Up to three kinds that the Dagster UI shows as icons."""
    pool: str | None = None
    """Dagster's pool that limits its parallel runs: `network`, `spark` or `gpu`."""
    columns: str = ""
    """Reference to a function from a Dataset to the Arrow schema of its table, shown in the Dagster UI."""
    column_inputs: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Columns of the stage before that a column is made from, by column. Others come from the column of their name."""
    upstream: "Callable[[Dataset], Stage] | None" = None
    """The stage before it; None for a source."""
    reads: Callable[[Layout, int], Sequence[int]] | None = None
    """The partitions of the stage before that a partition reads; None: all of them."""
    is_partitioned: bool = False
    partitions_per_run: Callable[[Dataset], int] | None = None
    """Partitions that one run covers at most; None: all, because each of them reads the whole input."""
    applies_to: Callable[[Dataset], bool] = lambda dataset: True
    """Whether a dataset has this stage."""
    reads_incomplete_input: bool = False
    """It summarizes the partitions that are committed and does not wait for the others."""
    hashes_before_skip: bool = True
    """Whether a rerun compares sha256 before it skips a partition. Else it compares file sizes."""
    find_changes: str = ""
    """Reference to a function that compares a source with its committed files (`stages/source_changes.py`)."""
    observe: str = ""
    """Reference to a function that records the files of others (`stages/source_changes.py`); empty if it has its own.

    Others change these files without notice: the stage is run each time, complete or not."""
    can_retry_rows: bool = False
    """Its asset takes the run config `retry`, the reasons of failed rows to try again."""
    parts: Callable[[Layout], Sequence[str]] | None = None
    """Keys of partial results that it commits below `NAME_parts`."""
    adopt: str = ""
    """Reference to a function that verifies files of another program (`stages/adoption.py`); empty if there is none."""
    adopted_settings: Callable[[Dataset], dict[str, Any]] = lambda dataset: {}
    """The settings that adopted files were verified with. Other settings do not make adopted partitions stale."""
    unit: str = "rows"
    """What its counts count."""
    layout_counts: tuple[str, ...] = ("parquet_files", "shards")
    """The counts of the layout that decide which rows are in its partitions, or in its partial results."""
    settings_group: str = ""
    """The group of its settings, such as `images`: names its values in messages."""
    repeats: str = ""
    """What a rebuild does again that takes long or burdens others: `download` or `encode`; empty if it is cheap."""
    advise: str = ""
    """Reference to a function that names the fix where too few rows were kept (`stages/kept_rows.py`)."""

    @property
    def name(self) -> str:
        """The name of the stage, of its asset and of its folder in the store."""
        return self.handle.asset

    @property
    def summary(self) -> str:
        """The stage in one sentence."""
        return self.description.strip().partition("\n")[0]

    @property
    def is_observed(self) -> bool:
        """Whether its files belong to others, so that a run records them and makes none."""
        return bool(self.observe)

    def settings_digest(self, dataset: Dataset) -> str:
        """Digest of the settings that change the bytes of the stage's files, as the dataset has them now."""
        return compute_digest([self.name, self.byte_settings(dataset)])

    def adopted_digest(self, dataset: Dataset) -> str:
        """Digest in place of `settings_digest` in the manifests of adopted partitions; empty if there can be none."""
        return f"adopted-{compute_digest([self.name, self.adopted_settings(dataset)])}" if self.adopt else ""

    def upstream_partitions(self, dataset: Dataset, partition: int) -> "tuple[Stage | None, Sequence[int]]":
        """The stage before, and the numbers of its partitions that this partition reads."""
        if self.upstream is None:
            return None, NOTHING
        before = self.upstream(dataset)
        layout = dataset.layout
        return before, before.handle.numbers(layout) if self.reads is None else self.reads(layout, partition)

    def run_size(self, dataset: Dataset) -> int:
        """How many partitions one run covers at most."""
        if self.partitions_per_run is None:
            return len(self.handle.numbers(dataset.layout))
        return self.partitions_per_run(dataset)

    def part_path(self, key: str) -> str:
        """Path of a partial result, relative to the store."""
        return f"statistics/{self.name}_parts/{key}.parquet"


def inputs_digest(key: str, upstream: list[Manifest]) -> str:
    """Return the digest of the input of partition `key`: its upstream output, else all upstream contents in order."""
    if len(upstream) == 1 and key in upstream[0].outputs:
        return upstream[0].outputs[key]
    return compute_digest([[manifest.key, manifest.content] for manifest in upstream])
