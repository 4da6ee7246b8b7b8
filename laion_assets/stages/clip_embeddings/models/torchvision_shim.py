"""Make `import torchvision` work beside a torch without CUDA.

The torchvision wheel from PyPI has its compiled operators linked against CUDA libraries. Where they cannot be loaded,
importing torchvision fails when it registers meta kernels for two operators that nobody declared. Declaring them first
is enough: nothing in this project, nor in open_clip or clip-retrieval, calls them.
"""

import importlib.util
import sys
from pathlib import Path

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[object] = []
"""The declarations; torch takes them back when the object that made them is collected."""


def ensure_torchvision() -> None:
    """Make torchvision importable in this process; call it before importing open_clip, clip_retrieval or torchvision.

    Where torchvision's own extension loads, nothing is declared. Calling it again does nothing.
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
