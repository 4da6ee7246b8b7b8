"""Train the CLIP model of the sample on procedural scenes: `python -m laion_assets.sample.clip.train --help`.

Training is deterministic for a seed, a machine and a number of threads. A stopped run continues from its last
checkpoint with the same batches. It has two parts:

1. Scenes of two objects and captions of both. The loss is CLIP's symmetric cross entropy
   (https://arxiv.org/abs/2103.00020). A caption that is true for several images of the batch has all of them as
   targets. An auxiliary loss predicts, with one linear layer on the embeddings of both towers, which object is where.
   It is first trained on captions alone: the text tower then learns within a minute that "A left of B" is "B right of
   A", instead of in thousands of steps with images.
2. Also scenes of one and three objects, and short queries ("a red circle", "circle", "something green") with all their
   right images in the batch (`query_training.py`). It starts from the float16 weights of the first part with a new
   optimizer.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from laion_assets.sample.clip.batches import Batch, make_batch, make_captions
from laion_assets.sample.clip.model import CHECKPOINT
from laion_assets.sample.clip.objective import attribute_loss, contrastive_loss
from laion_assets.sample.clip.query_training import train_queries
from laion_assets.sample.clip.training_run import (
    ATTRIBUTE_WEIGHT,
    TrainingRun,
    draw_ahead,
    learning_rate,
    to_input,
)

GROUPS = 32
"""Groups of eight scenes per step: a batch of 256."""
PAIR_STEPS = 600
PAIR_SCHEDULE_STEPS = 1300
"""Length of the cosine schedule of the first part, which ends before the schedule does."""
PAIR_LEARNING_RATE = 1.2e-3
QUERY_STEPS = 3600
TEXT_STEPS = 500
"""Steps of the text tower alone, before training with images."""
TEXT_LEARNING_RATE = 2e-3


def main() -> None:
    """Train, or continue training, and write the weights."""
    parser = argparse.ArgumentParser(
        prog="python -m laion_assets.sample.clip.train", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--start", type=Path, help="weights to start the second part from, instead of training the first part"
    )
    parser.add_argument(
        "--query-steps", type=int, default=QUERY_STEPS, help="steps of the second part (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of weights and scenes (default %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default %(default)s)")
    parser.add_argument("--state", type=Path, required=True, help="checkpoint file to write, and to continue from")
    parser.add_argument("--weights", type=Path, default=CHECKPOINT, help="float16 safetensors to write at the end")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    # For 65 tokens on a CPU, the backward pass of the flash kernel is slower than plain matrix products.
    torch.backends.cuda.enable_flash_sdp(False)
    start = options.start or options.state.with_suffix(".pairs.safetensors")
    if not start.exists() and not options.start:
        train_pairs(options.seed, options.state.with_suffix(".pairs"), start)
    train_queries(options.seed, options.query_steps, start, options.state, options.weights)


def train_pairs(seed: int, state: Path, weights: Path) -> None:
    """Train on scenes of two objects, with checkpoints in `state`, then write `weights` (float16)."""
    torch.manual_seed(seed)
    run = TrainingRun(None, state, PAIR_STEPS)
    if not run.done:
        _train_text_tower(run.model, run.tokenizer, seed)
    for step, batch in draw_ahead(make_batch, seed, GROUPS, run):
        run.train_step(_compute_loss(run, batch), learning_rate(step, PAIR_SCHEDULE_STEPS, PAIR_LEARNING_RATE))
    run.write_weights(weights)


def _compute_loss(run: TrainingRun, batch: Batch) -> torch.Tensor:
    model = run.model
    with torch.autocast("cpu", torch.bfloat16):
        images = model.encode_image(to_input(batch.images), normalize=True)
        captions = model.encode_text(run.tokenizer(batch.captions), normalize=True)
    scale = model.logit_scale.exp()
    loss = contrastive_loss(images.float(), captions.float(), scale, torch.from_numpy(batch.truth))
    for embeddings, attributes in ((images, batch.image_attributes), (captions, batch.caption_attributes)):
        loss = loss + ATTRIBUTE_WEIGHT * attribute_loss(model.attribute_head, embeddings.float(), attributes)
    return loss


def _train_text_tower(model: Any, tokenizer: Any, seed: int) -> None:
    """Train the text tower alone on the attribute loss, before it is trained with images."""
    learning = [p for name, p in model.named_parameters() if not name.startswith("visual.") and p.requires_grad]
    optimizer = torch.optim.AdamW(learning, TEXT_LEARNING_RATE, betas=(0.9, 0.98))
    for step in range(TEXT_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, TEXT_STEPS, TEXT_LEARNING_RATE)
        captions, attributes = make_captions(seed, step, 8 * GROUPS)
        with torch.autocast("cpu", torch.bfloat16):
            embeddings = model.encode_text(tokenizer(captions), normalize=True)
        loss = attribute_loss(model.attribute_head, embeddings.float(), attributes)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        if (step + 1) % 100 == 0:
            print(json.dumps({"text_step": step + 1, "steps": TEXT_STEPS, "loss": round(loss.item(), 4)}), flush=True)


if __name__ == "__main__":
    main()
