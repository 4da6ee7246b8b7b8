"""The newest committed index of a dataset, replaced without a restart.

Requests that started with the old version finish with it. It is closed when the last of them is done.
"""

import logging
import threading

from laion_assets.dataset.dataset import Dataset
from laion_assets.errors import LaionAssetsError
from laion_assets.search.index.index_version import IndexVersion, version_of
from laion_assets.search.results.safety_model import SafetyModel
from laion_assets.stages.knn_indices.handle import KNN_INDICES
from laion_assets.stages.knn_indices.vectors import MODALITIES
from laion_assets.store.manifest import WHOLE, read_manifest
from laion_assets.store.store import Store

_log = logging.getLogger(__name__)


class CurrentIndex:
    """Opens the committed indices of a dataset, and new ones after a later commit. Safe for threads."""

    def __init__(self, dataset: Dataset, safety: SafetyModel | None = None) -> None:
        """Open the indices. Raises the errors of `IndexVersion`."""
        self.dataset = dataset
        self.store = Store.of(dataset)
        self._lock = threading.Lock()
        self._safety = safety
        self._version = self._open()
        self.problem = ""
        """Why a newer commit could not be opened, empty if the newest one is open."""

    def _open(self) -> IndexVersion:
        """Open both indices now: no request waits for it, and a damaged one does not replace the open one."""
        version = IndexVersion(self.dataset, self.store, self._safety)
        for modality in MODALITIES:
            version.index(modality)
        return version

    @property
    def version(self) -> IndexVersion:
        """The version to use for one request: keep it until the request is done."""
        return self._version

    def refresh(self) -> bool:
        """Open the committed indices if they are another version than the open one. Returns whether they were.

        A version that cannot be opened is logged, and the open one stays.
        """
        with self._lock:
            try:
                manifest = read_manifest(self.store, KNN_INDICES, WHOLE)
                if manifest is None or version_of(manifest) == self._version.version:
                    self.problem = ""
                    return False
                self._version = self._open()
            except (LaionAssetsError, OSError) as error:
                if str(error) != self.problem:
                    _log.warning("%s: a new index cannot be opened: %s", self.dataset.name, error)
                self.problem = str(error)
                return False
            self.problem = ""
        _log.info("%s: opened index %s", self.dataset.name, self._version.version)
        return True
