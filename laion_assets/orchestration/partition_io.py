"""The base of the IO managers. They verify and describe partitions and return handles. They never move data."""

from typing import Any

import dagster as dg

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import ForeignError
from laion_assets.failures import own_errors_first
from laion_assets.orchestration.partitions import partition_numbers
from laion_assets.orchestration.ui.metadata_values import table, text, time_value
from laion_assets.orchestration.ui.readable import readable_bytes, reason_rows, summarize_partition
from laion_assets.plain_text import one_line
from laion_assets.stages.handle import Handle
from laion_assets.stages.kept_rows import require_rows
from laion_assets.stages.registry import find_stage
from laion_assets.stages.status import require_complete
from laion_assets.store.manifest import Manifest
from laion_assets.store.store import Store

Metadata = dict[str, dg.MetadataValue]
_NUMBERS = (dg.IntMetadataValue, dg.FloatMetadataValue)


class PartitionIOManager(dg.IOManager):
    """Returns a handle over exactly the partitions of a run.

    For an output it verifies that each of them is committed; the asset has reported each one with the metadata of
    `build_metadata`. For an input it sorts the keys (Dagster passes them in hash order) and refuses incomplete ones by
    name.
    """

    asset = ""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.store = Store.of(dataset)

    def describe(self, partition: int, manifest: Manifest) -> Metadata:
        """Return the metadata of one partition in addition to the counts. Each stage's IO manager overrides it."""
        return {}

    @own_errors_first
    def handle_output(self, context: dg.OutputContext, obj: Handle) -> None:
        """Verify the handle that an asset returned. Raises ForeignError and IncompleteError naming partitions, and
        EmptyStageError if the stage kept too few rows.
        """
        expected = self._partitions(context)
        if type(obj) is not find_stage(self.asset).handle or obj.store != self.store or obj.partitions != expected:
            raise ForeignError(
                f"the run covers {len(expected)} partitions of {self.dataset.name}/{self.asset} and its asset returned "
                f"{type(obj).__name__} over {len(obj.partitions)} in {obj.store.url}: return the handle of the run's "
                "partitions."
            )
        require_complete(self.dataset, obj)
        require_rows(self.dataset, self.asset, obj.partitions)
        rows = 0
        for partition in obj.partitions:
            manifest = obj.manifest(partition)
            rows += manifest.counts.rows_out
            if not context.has_asset_partitions:
                context.add_output_metadata(self.build_metadata(partition, manifest))
        count = len(obj.partitions)
        context.log.info(one_line(f"{count:,} partition{'s' if count != 1 else ''} verified, {rows:,} rows"))

    def build_metadata(self, partition: int, manifest: Manifest) -> Metadata:
        """Metadata of a committed partition in the Dagster UI, in the order of the page.

        First a line for people, then what the stage shows (images, example rows, links), then counts by reason, and
        last numbers for plots and the files.
        """
        counts = manifest.counts
        metadata: Metadata = {"summary": text(summarize_partition(find_stage(self.asset), manifest))}
        shown = self.describe(partition, manifest)
        numbers = {name: value for name, value in shown.items() if isinstance(value, _NUMBERS)}
        metadata |= {name: value for name, value in shown.items() if name not in numbers}
        if rows := reason_rows(counts.reasons, counts.rows_in):
            metadata["dropped_by_reason"] = table(("reason", "rows", "share"), rows)
        metadata |= numbers
        general = counts_metadata(self.store, manifest)
        return metadata | {name: value for name, value in general.items() if name not in metadata}

    @own_errors_first
    def load_input(self, context: dg.InputContext) -> Handle:
        """Return a handle over the partitions that the run reads. Raises IncompleteError naming what is missing, and
        EmptyStageError if the previous stage kept too few rows.
        """
        handle = find_stage(self.asset).handle.of(self.dataset, self._partitions(context))
        require_complete(self.dataset, handle)
        require_rows(self.dataset, self.asset, handle.partitions)
        return handle

    def _partitions(self, context: Any) -> tuple[int, ...]:
        keys = list(context.asset_partition_keys) if context.has_asset_partitions else []
        return partition_numbers(self.dataset, self.asset, keys)


def counts_metadata(store: Store, manifest: Manifest) -> Metadata:
    """Return rows in and out, bytes, seconds, the time of the commit, and the locations of the files."""
    counts = manifest.counts
    metadata: Metadata = {
        "dagster/row_count": dg.MetadataValue.int(counts.rows_out),
        "rows_in": dg.MetadataValue.int(counts.rows_in),
        "rows_out": dg.MetadataValue.int(counts.rows_out),
        "bytes": dg.MetadataValue.int(manifest.size),
        "seconds": dg.MetadataValue.float(round(manifest.seconds, 3)),
    }
    if manifest.committed_at:
        metadata["committed_at"] = time_value(manifest.committed_at)
    if manifest.is_adopted:
        program, folder, method = (manifest.adopted.get(name, "?") for name in ("program", "folder", "method"))
        metadata["adopted"] = text(f"files of {program} in {folder} ({method})")
    return {**metadata, "root": dg.MetadataValue.path(store.url), "files": file_table(manifest)}


def file_table(manifest: Manifest, limit: int = 8) -> dg.TableMetadataValue:
    """The files of a partition, below the root; the first `limit` of them."""
    rows = [(entry.path, readable_bytes(entry.size), entry.sha256[:12]) for entry in manifest.files]
    return table(("file", "size", "sha256"), rows, limit)
