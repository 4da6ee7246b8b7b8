"""Load img2dataset's Downloader with our opener instead of `urllib.request.urlopen`."""

import functools
import importlib.metadata
import importlib.util
import logging
import os
from types import ModuleType, SimpleNamespace

from laion_assets.errors import ShardError
from laion_assets.http.urllib_opener.opener import GuardedOpener, Request

VERSION = "1.47.0"
"""Another version may open connections in another way, past the guard."""
_log = logging.getLogger(__name__)
_MODULE = "img2dataset.downloader"
_ENVIRONMENT = {"NO_ALBUMENTATIONS_UPDATE": "1", "WANDB_MODE": "disabled"}
"""Without the first, albumentations requests the number of its newest version when it is imported."""


def load_guarded_module(opener: GuardedOpener) -> ModuleType:
    """Return a new copy of the module `img2dataset.downloader` that opens URLs with `opener`.

    The module in `sys.modules` is not changed: two shards in one process can have different openers, and a thread that
    still fetches for a failed shard keeps its guard. Raises ShardError for another version of img2dataset.
    """
    installed = importlib.metadata.version("img2dataset")
    if installed != VERSION:
        raise ShardError(
            f"img2dataset {installed} is installed, and images.engine = img2dataset can guard the connections of "
            f"{VERSION} only. Install img2dataset=={VERSION}, or set images.engine to laion_assets."
        )
    os.environ.update(_ENVIRONMENT)
    _warn_once()
    spec = importlib.util.find_spec(_MODULE)
    if spec is None or spec.loader is None:
        raise ShardError(f"{_MODULE} cannot be imported: install img2dataset=={VERSION}.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.urllib = SimpleNamespace(  # type: ignore[attr-defined]
        request=SimpleNamespace(Request=Request, urlopen=opener.open)
    )
    return module


@functools.cache
def _warn_once() -> None:
    _log.warning("decoder sandbox: none, images.engine is img2dataset, which decodes images in this process")
