"""The model and the optimizer of one part of the training, with its steps, checkpoints and validation."""

import json
import math
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.torch import save_file

from laion_assets.models.open_clip_package import import_open_clip
from laion_assets.sample.clip.batches import ATTRIBUTE_SIZES, PREFIXES, training_image
from laion_assets.sample.clip.model import ARCHITECTURE
from laion_assets.sample.clip.short_queries import PLAIN_QUERIES
from laion_assets.sample.clip.vocabulary import SparseVocabulary
from laion_assets.sample.scenes import BACKGROUNDS, COLOURS, RELATIONS, SHAPES, SIZES, draw_scene

LAYER_SCALE = 0.5
ATTRIBUTE_WEIGHT = 0.4
"""Weight of the auxiliary loss relative to the contrastive one."""
WEIGHT_DECAY = 0.05
WARMUP_STEPS = 80
MAX_LOGIT_SCALE = math.log(100)
CHECKPOINT_EVERY_STEPS = 100
LOG_EVERY_STEPS = 20
VALIDATION_SCENES = 500
_BATCHES_AHEAD = 4

_Drawn = TypeVar("_Drawn")


class TrainingRun:
    """A model in training: `done` of `steps` steps.

    It continues from the checkpoint in `state`, or starts from the weights `start`, or from random weights.
    """

    def __init__(self, start: Path | None, state: Path, steps: int):
        open_clip = import_open_clip(ARCHITECTURE)
        self.model: Any = open_clip.create_model(ARCHITECTURE, pretrained=str(start.absolute()) if start else None)
        self.tokenizer: Callable[[list[str]], torch.Tensor] = open_clip.get_tokenizer(ARCHITECTURE)
        words = [*SHAPES, *COLOURS, *SIZES, *RELATIONS, *BACKGROUNDS, *PREFIXES, "a an on background and"]
        if start:
            words += ["something", ","]
        used = self.tokenizer(words).unique()
        self.model.token_embedding = SparseVocabulary(self.model.token_embedding, used)
        if not start:
            _raise_layer_scales(self.model)
        self.model.visual.to(memory_format=torch.channels_last)
        self.model.attribute_head = torch.nn.Linear(self.model.text_projection.shape[1], sum(ATTRIBUTE_SIZES))
        self.model.object_head = torch.nn.Linear(self.model.text_projection.shape[1], len(PLAIN_QUERIES))
        self.model.train()
        self.optimizer = torch.optim.AdamW(_parameter_groups(self.model), betas=(0.9, 0.98), eps=1e-6)
        self.state, self.steps, self.done = state, steps, 0
        if state.exists():
            saved = torch.load(state, weights_only=True)
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.done = saved["step"]
            print(f"continuing from step {self.done} of {state}", flush=True)
        self._first, self._began, self._losses = self.done, time.monotonic(), list[float]()

    def train_step(self, loss: torch.Tensor, learning_rate: float) -> None:
        """Take one step down a loss, and log and store a checkpoint from time to time."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
        self._losses.append(loss.item())
        self.done += 1
        if self.done % LOG_EVERY_STEPS == 0 or self.done == self.steps:
            self._log()
        if self.done % CHECKPOINT_EVERY_STEPS == 0 or self.done == self.steps:
            self._save()

    def write_weights(self, weights: Path) -> None:
        """Write the model in the format of open_clip: float16 safetensors, full vocabulary."""
        left_out = ("token_embedding.", "attribute_head.", "object_head.")
        tensors = {name: tensor for name, tensor in self.model.state_dict().items() if not name.startswith(left_out)}
        tensors["token_embedding.weight"] = self.model.token_embedding.merged()
        staging = weights.with_suffix(".partial")
        save_file({name: tensor.half().contiguous() for name, tensor in sorted(tensors.items())}, staging)
        staging.chmod(0o644)
        os.replace(staging, weights)

    def _log(self) -> None:
        rate = (self.done - self._first) / (time.monotonic() - self._began)
        figures = {"step": self.done, "steps": self.steps, "loss": round(sum(self._losses) / len(self._losses), 4)}
        figures |= {"scale": round(self.model.logit_scale.exp().item(), 1), "steps_a_second": round(rate, 3)}
        figures |= {"eta_s": round((self.steps - self.done) / rate)}
        self._losses = []
        if self.done % CHECKPOINT_EVERY_STEPS == 0 or self.done == self.steps:
            figures |= self._validate()
        print(json.dumps(figures), flush=True)

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        """Return figures of 500 held-out scenes drawn at 64 pixels.

        They are recall@1 of the captions, the accuracy against the swapped captions, and precision@10 of the queries.
        """
        rng = np.random.default_rng(20_000)
        scenes = [draw_scene(rng, held_out=True) for _ in range(VALIDATION_SCENES)]
        pixels = to_input(np.stack([training_image(scene, rng) for scene in scenes]))
        full, swapped = [scene.caption for scene in scenes], [scene.swapped.caption for scene in scenes]
        queries = [query.texts[0] for query in PLAIN_QUERIES]
        self.model.eval()
        with torch.autocast("cpu", torch.bfloat16):
            images = self.model.encode_image(pixels, normalize=True).float()
            texts = self.model.encode_text(self.tokenizer(full + swapped + queries), normalize=True).float()
        self.model.train()
        similarity = texts @ images.T
        right = similarity[:VALIDATION_SCENES].diagonal()
        recall = similarity[:VALIDATION_SCENES].argmax(1) == torch.arange(VALIDATION_SCENES)
        apart = right > similarity[VALIDATION_SCENES : 2 * VALIDATION_SCENES].diagonal()
        found = similarity[2 * VALIDATION_SCENES :].topk(10).indices.tolist()
        precisions = [
            np.mean([query.is_true((scenes[place].first, scenes[place].second)) for place in places])
            for query, places in zip(PLAIN_QUERIES, found, strict=True)
        ]
        figures = {"recall_at_1_of_500": recall.float().mean().item(), "swapped": apart.float().mean().item()}
        figures |= {"query_precision_at_10": float(np.mean(precisions))}
        return {name: round(value, 3) for name, value in figures.items()}

    def _save(self) -> None:
        self.state.parent.mkdir(parents=True, exist_ok=True)
        staging = self.state.with_suffix(".partial")
        content = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.done}
        torch.save(content, staging)
        os.replace(staging, self.state)


def draw_ahead(
    make: Callable[[int, int, int], _Drawn], seed: int, groups: int, run: TrainingRun
) -> Iterator[tuple[int, _Drawn]]:
    """Yield the remaining steps and `make(seed, step, groups)`. A second process draws a few steps ahead."""
    first, last = run.done, run.steps
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        steps = range(first, min(first + _BATCHES_AHEAD, last))
        ahead = [pool.apply_async(make, (seed, step, groups)) for step in steps]
        for step in range(first, last):
            if step + _BATCHES_AHEAD < last:
                ahead.append(pool.apply_async(make, (seed, step + _BATCHES_AHEAD, groups)))
            yield step, ahead.pop(0).get()


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Return the learning rate of a step: a linear warm-up, then half a cosine."""
    if step < WARMUP_STEPS:
        return peak * (step + 1) / WARMUP_STEPS
    return peak * (0.005 + 0.995 * (1 + math.cos(math.pi * (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS))) / 2)


def to_input(images: np.ndarray) -> torch.Tensor:
    """Convert (n, H, W, 3) uint8 to (n, 3, H, W) float32 with open_clip's default mean and standard deviation."""
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor(OPENAI_DATASET_MEAN), torch.tensor(OPENAI_DATASET_STD)
    normalised = (tensor - mean[:, None, None]) / std[:, None, None]
    return normalised.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def _raise_layer_scales(model: Any) -> None:
    """Raise the layer scale of ConvNeXt's blocks. Their published start of 1e-6 is for far longer training."""
    for name, parameter in model.named_parameters():
        if name.endswith(".gamma"):
            parameter.fill_(LAYER_SCALE)


def _parameter_groups(model: Any) -> list[dict]:
    """Return parameter groups with weight decay on matrices only, as in open_clip."""
    learning = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    matrices = [p for name, p in learning if p.ndim >= 2 and "embedding" not in name]
    rest = [p for name, p in learning if p.ndim < 2 or "embedding" in name]
    return [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": rest, "weight_decay": 0.0}]
