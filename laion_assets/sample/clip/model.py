"""The CLIP model of the sample: an architecture for open_clip, and a checkpoint.

open_clip keeps its list of architectures per process, so each process that loads the model registers it first, with
`import_open_clip(ARCHITECTURE)`. A local checkpoint gets open_clip's default preprocessing at the architecture's image
size: bicubic resize of the shorter side to 64 px, centre crop, OpenAI's mean and standard deviation. The model is
trained for exactly that.
"""

from pathlib import Path

ARCHITECTURE = "laion-assets-sample"
"""The name of the architecture. open_clip derives it from the name of the configuration file."""
CONFIGURATION = Path(__file__).with_name(f"{ARCHITECTURE}.json")
CHECKPOINT = Path(__file__).with_name("weights.safetensors")
EVALUATION = Path(__file__).with_name("evaluation.json")


def clip_retrieval_name(checkpoint: Path = CHECKPOINT) -> str:
    """Return the clip-retrieval name of the model: `open_clip:ARCHITECTURE//absolute/path/weights.safetensors`."""
    return f"open_clip:{ARCHITECTURE}/{Path(checkpoint).absolute()}"
