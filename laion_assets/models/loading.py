"""Load a CLIP model by its clip-retrieval name.

A name means the same model as in clip-retrieval. Three things differ: weights that cannot be loaded raise a ModelError
with the fix, `precision` sets the arithmetic (clip-retrieval uses bfloat16 on every GPU that has it), and SigLIP is
supported (`model_packages`).
"""

import os
import pickle
import threading
from collections.abc import Callable
from typing import Any

from laion_assets.dataset.dataset import SAMPLE_MODEL
from laion_assets.errors import ModelError
from laion_assets.models.clip_model import ClipModel
from laion_assets.models.pools import StartPools, start_no_pools
from laion_assets.models.weights import weights_identity
from laion_assets.sample.clip.model import clip_retrieval_name

_building = threading.Lock()
"""One model at a time: the packages that build models patch and import each other on first use."""


def load_model(
    name: str,
    device: str = "auto",
    precision: str = "auto",
    start_pools: StartPools = start_no_pools,
    cpu_threads: int = 0,
) -> ClipModel:
    """Load the model of this name: `ViT-B/32`, `open_clip:ARCH/TAG`, `open_clip:ARCH//checkpoint`, `hf_clip:DIR`,
    `sample-clip`.

    `device` is `auto`, `cpu`, `cuda` or `cuda:N`. `precision` is `auto` (fp32 on a CPU, fp16 on a GPU), `fp32`, `bf16`
    or `fp16`; the weights are cast to it. With open_clip, fp32 matrix products on a GPU use TF32, as in clip-retrieval.
    `start_pools` starts worker processes before the model is built. `cpu_threads` sets the number of torch's threads if
    the device is a CPU; 0 keeps torch's default. Raises ModelError if the weights cannot be loaded
    or the device does not exist.
    """
    # Set before torch is imported: its OpenMP threads otherwise spin while they wait for the next product. Next to
    # other work on two cores (fetching, decoding) that doubled and tripled the CPU time of an embedding file.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

    import torch

    from laion_assets.models.model_packages import build_model

    identity = weights_identity(name)
    place = _find_device(device)
    if precision == "auto":
        precision = "fp32" if place == "cpu" else "fp16"
    if precision != "fp32" and place == "cpu":
        raise ModelError(
            f"embeddings.precision is {precision} and the device is a CPU. Set embeddings.precision to auto or fp32."
        )
    if cpu_threads and place == "cpu":
        torch.set_num_threads(cpu_threads)
    pools = start_pools("clip" if name[:1].isupper() else "open_clip", place != "cpu")
    try:
        with _building:
            model, preprocess, tokenizer = build_model(clip_retrieval_name() if name == SAMPLE_MODEL else name, place)
    except Exception as error:
        lines = str(error).strip().splitlines()
        reason = lines[0][:300] if lines else type(error).__name__
        raise ModelError(
            f"The model {name} cannot be loaded: {type(error).__name__}: {reason}. Weights named by a tag are "
            "downloaded once from their hub: allow that, copy the hub's cache to this machine, or set the dataset's "
            "model to local weights, open_clip:ARCH//absolute/path or hf_clip:DIR."
        ) from error
    # OpenAI's models are float16 on a GPU; `precision` decides here.
    model = model.float().eval().requires_grad_(False)
    if pools.preparation is not None and not _is_picklable(tokenizer):
        pools.preparation.close()
        pools.preparation = None
    if precision != "fp32":
        model = model.to({"bf16": torch.bfloat16, "fp16": torch.float16}[precision])
    return ClipModel(identity, model, preprocess, tokenizer, place, precision, pools)


def _is_picklable(tokenizer: Callable[[list[str]], Any]) -> bool:
    """Whether a tokenizer can be sent to another process."""
    try:
        pickle.dumps(tokenizer)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return True


def _find_device(device: str) -> str:
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"The device {device!r} (embeddings.device) is not available: {reason}. Use auto or cpu."
        ) from error
    return device
