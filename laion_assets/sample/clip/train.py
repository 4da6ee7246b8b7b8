"""Train the CLIP model of the sample on procedural scenes: `python -m laion_assets.sample.clip.train --help`.

Training is deterministic for a seed, a machine and a number of threads. A stopped run continues from its last
checkpoint with the same batches. The loss is CLIP's symmetric cross entropy (https://arxiv.org/abs/2103.00020). A
caption that is true for several images of the batch has all of them as targets. An auxiliary loss predicts, with one
linear layer on the embeddings of both towers, which object is where. It is first trained on captions alone: the text
tower then learns within a minute that "A left of B" is "B right of A", instead of in thousands of steps with images.
"""

import argparse
import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from laion_assets.models.open_clip_package import import_open_clip
from laion_assets.sample.clip.batches import (
    ATTRIBUTE_SIZES,
    PREFIXES,
    Batch,
    make_batch,
    make_captions,
    training_image,
)
from laion_assets.sample.clip.model import ARCHITECTURE, CHECKPOINT
from laion_assets.sample.clip.objective import attribute_loss, contrastive_loss
from laion_assets.sample.clip.vocabulary import SparseVocabulary
from laion_assets.sample.scenes import BACKGROUNDS, COLOURS, RELATIONS, SHAPES, SIZES, draw_scene

Tokenizer = Callable[[list[str]], torch.Tensor]
"""n captions to (n, 24) int64 tokens."""

GROUPS = 32
"""Groups of eight scenes per step: a batch of 256."""
WARMUP_STEPS = 80
TEXT_STEPS = 500
"""Steps of the text tower alone, before training with images."""
TEXT_LEARNING_RATE = 2e-3
LAYER_SCALE = 0.5
ATTRIBUTE_WEIGHT = 0.4
"""Weight of the auxiliary loss relative to the contrastive one."""
WEIGHT_DECAY = 0.05
MAX_LOGIT_SCALE = math.log(100)
CHECKPOINT_EVERY_STEPS = 100
LOG_EVERY_STEPS = 20


def main() -> None:
    """Train, or continue training, and write the weights."""
    parser = argparse.ArgumentParser(
        prog="python -m laion_assets.sample.clip.train", description=__doc__.split("\n")[0]
    )
    parser.add_argument(
        "--steps", type=int, default=1300, help="length of the schedule, in steps of 256 images (default %(default)s)"
    )
    parser.add_argument(
        "--until",
        type=int,
        default=600,
        help="stop after this step and write the weights (default %(default)s, as in the package)",
    )
    parser.add_argument(
        "--learning-rate", type=float, default=1.2e-3, help="peak of the cosine schedule (default %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1, help="seed of weights and scenes (default %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default %(default)s)")
    parser.add_argument("--state", type=Path, required=True, help="checkpoint file to write, and to continue from")
    parser.add_argument("--weights", type=Path, default=CHECKPOINT, help="float16 safetensors to write at the end")
    options = parser.parse_args()
    until = min(options.until, options.steps)
    train(options.steps, until, options.learning_rate, options.seed, options.threads, options.state, options.weights)


def train(steps: int, until: int, learning_rate: float, seed: int, threads: int, state: Path, weights: Path) -> None:
    """Train up to step `until` of `steps`, with checkpoints in `state`, then write `weights` (float16)."""
    torch.set_num_threads(threads)
    # For 65 tokens on a CPU, the backward pass of the flash kernel is slower than plain matrix products.
    torch.backends.cuda.enable_flash_sdp(False)
    open_clip = import_open_clip(ARCHITECTURE)
    torch.manual_seed(seed)
    model = open_clip.create_model(ARCHITECTURE)
    tokenizer = open_clip.get_tokenizer(ARCHITECTURE)
    model.token_embedding = SparseVocabulary(model.token_embedding, _used_tokens(tokenizer))
    _raise_layer_scales(model)
    model.visual.to(memory_format=torch.channels_last)
    model.attribute_head = torch.nn.Linear(model.text_projection.shape[1], sum(ATTRIBUTE_SIZES))
    optimizer = torch.optim.AdamW(_parameter_groups(model), betas=(0.9, 0.98), eps=1e-6)
    start = 0
    if state.exists():
        saved = torch.load(state, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        start = saved["step"]
        print(f"continuing from step {start} of {state}", flush=True)
    else:
        _train_text_tower(model, tokenizer, seed)
    began, losses = time.monotonic(), []
    for step, batch in zip(range(start, until), _batches(seed, start, until), strict=True):
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(step, steps, learning_rate)
        losses.append(_train_step(model, optimizer, tokenizer, batch))
        done = step + 1
        if done % LOG_EVERY_STEPS == 0 or done == until:
            rate = (done - start) / (time.monotonic() - began)
            figures = {"step": done, "steps": until, "loss": round(sum(losses) / len(losses), 4)}
            figures |= {"scale": round(model.logit_scale.exp().item(), 1), "steps_a_second": round(rate, 3)}
            figures |= {"eta_s": round((until - done) / rate)}
            losses = []
            if done % CHECKPOINT_EVERY_STEPS == 0:
                figures |= _validate(model, tokenizer)
            print(json.dumps(figures), flush=True)
        if done % CHECKPOINT_EVERY_STEPS == 0 or done == until:
            _save(state, {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": done})
    write_weights(model, weights)


def _train_text_tower(model: Any, tokenizer: Tokenizer, seed: int) -> None:
    """Train the text tower alone on the attribute loss, before it is trained with images."""
    learning = [p for name, p in model.named_parameters() if not name.startswith("visual.") and p.requires_grad]
    optimizer = torch.optim.AdamW(learning, TEXT_LEARNING_RATE, betas=(0.9, 0.98))
    for step in range(TEXT_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(step, TEXT_STEPS, TEXT_LEARNING_RATE)
        captions, attributes = make_captions(seed, step, 8 * GROUPS)
        with torch.autocast("cpu", torch.bfloat16):
            embeddings = model.encode_text(tokenizer(captions), normalize=True)
        loss = attribute_loss(model.attribute_head, embeddings.float(), attributes)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        if (step + 1) % (5 * LOG_EVERY_STEPS) == 0:
            print(json.dumps({"text_step": step + 1, "steps": TEXT_STEPS, "loss": round(loss.item(), 4)}), flush=True)


def to_input(images: np.ndarray) -> torch.Tensor:
    """Convert (n, H, W, 3) uint8 to (n, 3, H, W) float32 with open_clip's default mean and standard deviation."""
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(OPENAI_DATASET_MEAN), torch.tensor(OPENAI_DATASET_STD)
    normalised = (tensor - mean[:, None, None]) / std[:, None, None]
    return normalised.contiguous(memory_format=torch.channels_last)


def write_weights(model: Any, weights: Path) -> None:
    """Write the model in the format of open_clip: float16 safetensors, full vocabulary."""
    tensors = {k: v for k, v in model.state_dict().items() if not k.startswith(("token_embedding.", "attribute_head."))}
    tensors["token_embedding.weight"] = model.token_embedding.merged()
    staging = weights.with_suffix(".partial")
    save_file({name: tensor.half().contiguous() for name, tensor in sorted(tensors.items())}, staging)
    staging.chmod(0o644)
    os.replace(staging, weights)


def _train_step(model: Any, optimizer: torch.optim.Optimizer, tokenizer: Tokenizer, batch: Batch) -> float:
    with torch.autocast("cpu", torch.bfloat16):
        images = model.encode_image(to_input(batch.images), normalize=True)
        captions = model.encode_text(tokenizer(batch.captions), normalize=True)
    scale = model.logit_scale.exp()
    loss = contrastive_loss(images.float(), captions.float(), scale, torch.from_numpy(batch.truth))
    for embeddings, attributes in ((images, batch.image_attributes), (captions, batch.caption_attributes)):
        loss = loss + ATTRIBUTE_WEIGHT * attribute_loss(model.attribute_head, embeddings.float(), attributes)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    with torch.no_grad():
        model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
    return loss.item()


def _batches(seed: int, start: int, steps: int) -> Iterator[Batch]:
    """Return the batches of the remaining steps. A second process draws them a few steps ahead."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        ahead = [pool.apply_async(make_batch, (seed, step, GROUPS)) for step in range(start, min(start + 4, steps))]
        for step in range(start, steps):
            if step + 4 < steps:
                ahead.append(pool.apply_async(make_batch, (seed, step + 4, GROUPS)))
            yield ahead.pop(0).get()


@torch.no_grad()
def _validate(model: Any, tokenizer: Tokenizer) -> dict[str, float]:
    """Return recall@1 of 500 held-out scenes drawn at 64 pixels, and the accuracy against their swapped captions."""
    rng = np.random.default_rng(20_000)
    scenes = [draw_scene(rng, held_out=True) for _ in range(500)]
    model.eval()
    with torch.autocast("cpu", torch.bfloat16):
        images = model.encode_image(to_input(np.stack([training_image(s, rng) for s in scenes])), normalize=True)
        captions = model.encode_text(tokenizer([s.caption for s in scenes]), normalize=True)
        swapped = model.encode_text(tokenizer([s.swapped.caption for s in scenes]), normalize=True)
    model.train()
    images, captions, swapped = images.float(), captions.float(), swapped.float()
    similarity = captions @ images.T
    recall = (similarity.argmax(1) == torch.arange(len(scenes))).float().mean().item()
    apart = ((images * captions).sum(1) > (images * swapped).sum(1)).float().mean().item()
    return {"recall_at_1_of_500": round(recall, 3), "swapped": round(apart, 3)}


@torch.no_grad()
def _raise_layer_scales(model: Any) -> None:
    """Raise the layer scale of ConvNeXt's blocks. Their published start of 1e-6 is for far longer training."""
    for name, parameter in model.named_parameters():
        if name.endswith(".gamma"):
            parameter.fill_(LAYER_SCALE)


def _used_tokens(tokenizer: Tokenizer) -> torch.Tensor:
    words = [*SHAPES, *COLOURS, *SIZES, *RELATIONS, *BACKGROUNDS, *PREFIXES, "a an on background and"]
    return tokenizer(words).unique()


def _parameter_groups(model: Any) -> list[dict]:
    """Return parameter groups with weight decay on matrices only, as in open_clip."""
    learning = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name, p in learning if p.ndim >= 2 and "embedding" not in name]
    rest = [p for name, p in learning if p.ndim < 2 or "embedding" in name]
    return [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": rest, "weight_decay": 0.0}]


def _learning_rate(step: int, steps: int, peak: float) -> float:
    if step < WARMUP_STEPS:
        return peak * (step + 1) / WARMUP_STEPS
    return peak * (0.005 + 0.995 * (1 + math.cos(math.pi * (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS))) / 2)


def _save(state: Path, content: dict) -> None:
    state.parent.mkdir(parents=True, exist_ok=True)
    staging = state.with_suffix(".partial")
    torch.save(content, staging)
    os.replace(staging, state)


if __name__ == "__main__":
    main()
