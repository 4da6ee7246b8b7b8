"""The CLIP model of the sample: an architecture for open_clip, and a checkpoint.

open_clip registers architectures per process, so `register` must run in each process that loads the model. A local
checkpoint gets open_clip's default preprocessing at the image size of the architecture: bicubic resize of the shorter
of width and height to 64 pixels, centre crop, OpenAI's mean and standard deviation. The model is trained for that.
"""

from pathlib import Path

ARCHITECTURE = "laion-assets-sample"
"""The name of the architecture. open_clip derives it from the name of the configuration file."""
CONFIGURATION = Path(__file__).with_name(f"{ARCHITECTURE}.json")
CHECKPOINT = Path(__file__).with_name("weights.safetensors")
EVALUATION = Path(__file__).with_name("evaluation.json")


def register() -> None:
    """Register `ARCHITECTURE` with open_clip in this process. Further calls do nothing."""
    from laion_assets.stages.clip_embeddings.models.torchvision_shim import ensure_torchvision

    ensure_torchvision()
    import open_clip

    if ARCHITECTURE not in open_clip.list_models():
        open_clip.add_model_config(CONFIGURATION)


def clip_retrieval_name(checkpoint: Path = CHECKPOINT) -> str:
    """Return the clip-retrieval name of the model: `open_clip:ARCHITECTURE//absolute/path/weights.safetensors`."""
    return f"open_clip:{ARCHITECTURE}/{Path(checkpoint).absolute()}"
