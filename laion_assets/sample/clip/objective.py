"""What the sample's CLIP is trained for: CLIP's loss with several right answers, and naming what is where."""

import math

import numpy as np
import torch

from laion_assets.sample.clip.batches import ATTRIBUTE_SIZES, UNKNOWN


def contrastive_loss(
    pictures: torch.Tensor, captions: torch.Tensor, scale: torch.Tensor, truth: torch.Tensor
) -> torch.Tensor:
    """CLIP's loss with several right answers: pictures and captions (n, d) of norm 1, truth (n, n) bool; a scalar."""
    logits = scale * pictures @ captions.T
    targets = truth.float()
    by_picture = -(targets / targets.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1).mean()
    by_caption = -(targets / targets.sum(0, keepdim=True) * logits.log_softmax(0)).sum(0).mean()
    return (by_picture + by_caption) / 2


def attribute_loss(head: torch.nn.Linear, embeddings: torch.Tensor, attributes: np.ndarray) -> torch.Tensor:
    """Sum over attributes of the cross entropy of naming them from embeddings (n, d) of norm 1; a scalar."""
    logits = head(embeddings * math.sqrt(embeddings.shape[1])).split(ATTRIBUTE_SIZES, dim=1)
    targets = torch.from_numpy(attributes).T
    losses = [
        torch.nn.functional.cross_entropy(answers, target, ignore_index=UNKNOWN, reduction="sum")
        for answers, target in zip(logits, targets, strict=True)
    ]
    return torch.stack(losses).sum() / len(embeddings)
