"""What assets exchange: small frozen values that name committed partitions and know how to open them.

A handle never holds data. The IO manager of a stage makes it after it has verified that its partitions are committed.
The work of a stage uses only the handle of the previous stage.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Self, cast

from laion_assets.dataset.dataset import Dataset
from laion_assets.dataset.layout import Layout, Numbers, PartitionKey
from laion_assets.errors import IncompleteError
from laion_assets.store.manifest import WHOLE, Manifest, read_manifest
from laion_assets.store.store import Store


@dataclass(frozen=True)
class Handle:
    """Committed partitions of one stage of a dataset, as partition numbers in order.

    A stage without partitions has the one number 0 and the key `WHOLE`.
    """

    store: Store
    layout: Layout
    partitions: tuple[int, ...]

    asset: ClassVar[str] = ""
    """The name of the stage, of its asset and of its folder."""

    @classmethod
    def of(cls, dataset: Dataset, partitions: tuple[int, ...] | None = None) -> Self:
        """Return a handle over these partitions, all of them if None. Does not check that they are committed."""
        layout = dataset.layout
        return cls(Store.of(dataset), layout, tuple(cls.numbers(layout)) if partitions is None else partitions)

    @staticmethod
    def numbers(layout: Layout) -> Numbers[int]:
        """The numbers of the stage's partitions."""
        return cast("Numbers[int]", range(1))

    @staticmethod
    def key(layout: Layout, partition: int) -> PartitionKey:
        """The partition key of a partition number."""
        return PartitionKey(WHOLE)

    @classmethod
    def keys(cls, layout: Layout) -> list[PartitionKey]:
        """The partition keys in order: fixed width, digits only."""
        return [cls.key(layout, number) for number in cls.numbers(layout)]

    @classmethod
    def paths(cls, layout: Layout, key: str) -> tuple[str, ...]:
        """Paths of a partition's files, relative to the store; empty where the stage's source names the files."""
        return ()

    def manifest(self, partition: int) -> Manifest:
        """Return the partition's manifest. Raises IncompleteError if it is not committed."""
        key = self.key(self.layout, partition)
        manifest = read_manifest(self.store, self.asset, key)
        if manifest is None:
            raise IncompleteError(f"{self.asset} {key} is not committed in {self.store.url}: materialize it first.")
        return manifest

    def manifests(self) -> Iterator[Manifest]:
        """Return the manifests of the handle's partitions, in order."""
        return map(self.manifest, self.partitions)
