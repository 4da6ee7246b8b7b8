"""Import open_clip without the packages that a model does not use.

`import open_clip` imports transformers and timm, and timm imports wandb, each in a `try`. That takes about 3 s of CPU.
Few architectures need them: transformers for a text tower from Hugging Face (`hf_model_name` in the architecture's
configuration), timm for an image tower from timm (`timm_model_name`). So open_clip is imported as if they were not
installed. When an architecture needs one of them, the module of open_clip that uses it is loaded again.

torchvision and timm also import torch's compiler, which takes 1 s of CPU and which this project does not use: for a
function that says what it supports, and for a decorator that excludes functions from it. During their import, a
stand-in with these two names has its place.
"""

import contextlib
import importlib
import sys
import threading
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from laion_assets.models.torchvision_shim import ensure_torchvision
from laion_assets.sample.clip.model import ARCHITECTURE, CONFIGURATION

_lock = threading.Lock()


def import_open_clip(architecture: str = "") -> ModuleType:
    """Import open_clip with the optional packages that this architecture needs; without a name, none of them.

    The sample's architecture is registered with open_clip when it is named. Code of the same process that builds
    another architecture without this function must call it first with that architecture.
    """
    ensure_torchvision()
    with _lock:
        with _without_compiler():
            import torchvision  # noqa: F401  (before the other packages are hidden, which it may look for)

        with _hide("timm", "transformers"):
            import open_clip
        if architecture == ARCHITECTURE and ARCHITECTURE not in open_clip.list_models():
            open_clip.add_model_config(CONFIGURATION)
        configuration = open_clip.get_model_config(architecture) or {}
        if "timm_model_name" in configuration.get("vision_cfg", {}):
            _complete("open_clip.timm_model", "timm")
        if "hf_model_name" in configuration.get("text_cfg", {}):
            _complete("open_clip.hf_model", "transformers")
    return open_clip


@contextlib.contextmanager
def _hide(*packages: str) -> Iterator[None]:
    """Let imports of these packages fail for a moment, except of those that are imported already."""
    hidden: dict[str, Any] = {name: None for name in packages if name not in sys.modules}
    sys.modules.update(hidden)
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextlib.contextmanager
def _without_compiler() -> Iterator[None]:
    """Let `import torch._dynamo` find a stand-in for a moment, unless it is imported already."""
    if "torch._dynamo" in sys.modules:
        yield
        return
    compiler: Any = ModuleType("torch._dynamo")
    compiler.utils = ModuleType("torch._dynamo.utils")
    compiler.utils.is_compile_supported = lambda device: False
    compiler.disable = lambda function=None, *options, **named: function or (lambda decorated: decorated)
    modules = {"torch._dynamo": compiler, "torch._dynamo.utils": compiler.utils}
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name, module in modules.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def _complete(module: str, package: str) -> None:
    """Load a module of open_clip again if it was imported without its package.

    Its classes that were imported elsewhere keep working: their methods read the globals of the same module.
    """
    if getattr(sys.modules[module], package) is None:
        with _hide("wandb"), _without_compiler():
            importlib.import_module(package)
        importlib.reload(sys.modules[module])
