"""The second part of the training: both towers learn short queries, from new images in every step.

The weights at the peak learning rate do not depend on when the training ends. So a run can be made longer: continue
from a checkpoint before the decay, with more steps.
"""

import json
import math
from pathlib import Path

import numpy as np
import torch

from laion_assets.sample.clip.batches import make_captions
from laion_assets.sample.clip.objective import attribute_loss, contrastive_loss, object_loss, query_loss
from laion_assets.sample.clip.short_queries import PLAIN_QUERIES, Texts, make_query_batch
from laion_assets.sample.clip.training_run import ATTRIBUTE_WEIGHT, WARMUP_STEPS, TrainingRun, draw_ahead, to_input

GROUPS = 16
"""Groups of eight images per step: a batch of 128."""
LEARNING_RATE = 1.2e-3
DECAY_STEPS = 1000
"""The last steps, in which the learning rate falls to zero."""
HEAD_STEPS = 100
"""Steps of the new attribute layer alone, so that its first gradients do not disturb the towers."""
HEAD_LEARNING_RATE = 1e-2
HEAD_CAPTIONS = 256
"""Captions in each of these steps."""
QUERY_WEIGHT = 2.0
"""Weight of the loss of the short queries relative to the contrastive one."""
OBJECT_WEIGHT = 0.3
"""Weight of the auxiliary loss that predicts objects from images."""


def train_queries(seed: int, steps: int, start: Path, state: Path, weights: Path) -> None:
    """Continue from the weights in `start`, with checkpoints in `state`, then write `weights` (float16)."""
    torch.manual_seed(seed)
    run = TrainingRun(start, state, steps)
    if not run.done:
        _train_attribute_head(run, seed)
    for step, (images, texts) in draw_ahead(make_query_batch, seed, GROUPS, run):
        run.train_step(_compute_loss(run, images, texts), decaying_rate(step, steps))
    run.write_weights(weights)


def decaying_rate(step: int, steps: int) -> float:
    """Return the learning rate: a linear warm-up, then constant, then 1 - sqrt (https://arxiv.org/abs/2405.18392)."""
    decayed = max(0, step + DECAY_STEPS - steps) / DECAY_STEPS
    return LEARNING_RATE * min(1, (step + 1) / WARMUP_STEPS) * (1 - math.sqrt(decayed))


def _compute_loss(run: TrainingRun, pixels: np.ndarray, texts: Texts) -> torch.Tensor:
    model = run.model
    with torch.autocast("cpu", torch.bfloat16):
        images = model.encode_image(to_input(pixels), normalize=True).float()
        encoded = model.encode_text(run.tokenizer([*texts.captions, *texts.queries]), normalize=True).float()
    captions, queries = encoded.split((len(texts.captions), len(texts.queries)))
    loss = contrastive_loss(images, captions, model.logit_scale.exp(), torch.from_numpy(texts.truth))
    for embeddings, attributes in ((images, texts.image_attributes), (captions, texts.caption_attributes)):
        loss = loss + ATTRIBUTE_WEIGHT * attribute_loss(model.attribute_head, embeddings, attributes)
    hits = torch.from_numpy(texts.hits)
    objects = object_loss(model.object_head, images, hits[:, : len(PLAIN_QUERIES)])
    return loss + QUERY_WEIGHT * query_loss(images, queries, hits) + OBJECT_WEIGHT * objects


def _train_attribute_head(run: TrainingRun, seed: int) -> None:
    optimizer = torch.optim.AdamW(run.model.attribute_head.parameters(), HEAD_LEARNING_RATE)
    loss = math.nan
    for step in range(HEAD_STEPS):
        captions, attributes = make_captions(seed, step, HEAD_CAPTIONS)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            embeddings = run.model.encode_text(run.tokenizer(captions), normalize=True)
        drawn = attribute_loss(run.model.attribute_head, embeddings.float(), attributes)
        optimizer.zero_grad(set_to_none=True)
        drawn.backward()
        optimizer.step()
        loss = drawn.item()
    print(json.dumps({"head_steps": HEAD_STEPS, "loss": round(loss, 4)}), flush=True)
