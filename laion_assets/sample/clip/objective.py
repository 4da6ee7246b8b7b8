"""The losses of the CLIP model of the sample: CLIP's loss with several right answers, and an attribute loss."""

import math

import numpy as np
import torch

from laion_assets.sample.clip.batches import ATTRIBUTE_SIZES, UNKNOWN


def contrastive_loss(
    images: torch.Tensor, captions: torch.Tensor, scale: torch.Tensor, truth: torch.Tensor
) -> torch.Tensor:
    """Return CLIP's loss, a scalar, for images and captions (n, d) of norm 1 and truth (n, n) bool."""
    logits = scale * images @ captions.T
    targets = truth.float()
    by_image = -(targets / targets.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1).mean()
    by_caption = -(targets / targets.sum(0, keepdim=True) * logits.log_softmax(0)).sum(0).mean()
    return (by_image + by_caption) / 2


def attribute_loss(head: torch.nn.Linear, embeddings: torch.Tensor, attributes: np.ndarray) -> torch.Tensor:
    """Return the cross entropy of predicting attributes from embeddings (n, d) of norm 1, summed: a scalar."""
    logits = head(embeddings * math.sqrt(embeddings.shape[1])).split(ATTRIBUTE_SIZES, dim=1)
    targets = torch.from_numpy(attributes).T
    losses = [
        torch.nn.functional.cross_entropy(answers, target, ignore_index=UNKNOWN, reduction="sum")
        for answers, target in zip(logits, targets, strict=True)
    ]
    return torch.stack(losses).sum() / len(embeddings)
