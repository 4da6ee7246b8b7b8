"""Make `import torchvision` work with a torch without CUDA.

The torchvision wheel from PyPI links its compiled operators against CUDA libraries. If those cannot be loaded,
importing torchvision fails, because it registers meta kernels for two operators that were never declared. Declaring
them before the import is enough: this project, open_clip and clip-retrieval never call them.
"""

import importlib.util
import sys
from pathlib import Path

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[object] = []
"""The declarations. torch removes them when the object that declared them is garbage-collected."""


def ensure_torchvision() -> None:
    """Make torchvision importable in this process; call it before importing open_clip, clip_retrieval or torchvision.

    Declares nothing if torchvision's own extension loads. Further calls do nothing.
    """
    if "torchvision" in sys.modules or _libraries:
        return
    import torch

    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise ImportError("torchvision is not installed; install the project with its dependencies: pip install .")
    try:
        torch.ops.load_library(next(Path(spec.origin).parent.glob("_C.*")))
    except (OSError, StopIteration):
        library = torch.library.Library("torchvision", "DEF")
        for operator in _OPERATORS:
            library.define(operator)
        _libraries.append(library)
