"""The losses of the CLIP model of the sample: CLIP's loss with several right answers, and an attribute loss."""

import math

import numpy as np
import torch

from laion_assets.sample.clip.batches import ATTRIBUTE_SIZES, UNKNOWN

QUERY_SCALE = 40.0
"""Scale of the similarities in `query_loss`. It is larger than the learned one, so that near misses count most."""


def contrastive_loss(
    images: torch.Tensor, captions: torch.Tensor, scale: torch.Tensor, truth: torch.Tensor
) -> torch.Tensor:
    """Return CLIP's loss, a scalar, for images and captions (n, d) of norm 1 and truth (n, n) bool."""
    logits = scale * images @ captions.T
    targets = truth.float()
    by_image = -(targets / targets.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1).mean()
    by_caption = -(targets / targets.sum(0, keepdim=True) * logits.log_softmax(0)).sum(0).mean()
    return (by_image + by_caption) / 2


def query_loss(images: torch.Tensor, queries: torch.Tensor, hits: torch.Tensor) -> torch.Tensor:
    """Return the cross entropy of each right image against all wrong ones, its mean over right images and queries.

    `images` (n, d) and `queries` (m, d) have norm 1, `hits` (n, m) is bool. Right images do not compete with each
    other, as in the supervised contrastive loss (https://arxiv.org/abs/2004.11362). Queries without right or wrong
    images do not count.
    """
    logits = QUERY_SCALE * images @ queries.T
    wrong = logits.masked_fill(hits, -math.inf).logsumexp(0)
    losses = torch.nn.functional.softplus(wrong - logits).where(hits, logits.new_zeros(()))
    counted = hits.any(0) & ~hits.all(0)
    return (losses.sum(0) / hits.sum(0).clamp(min=1))[counted].mean()


def object_loss(head: torch.nn.Linear, images: torch.Tensor, hits: torch.Tensor) -> torch.Tensor:
    """Return the cross entropy of predicting which queries (n, m) are true from images (n, d) of norm 1, summed."""
    logits = head(images * math.sqrt(images.shape[1]))
    return torch.nn.functional.binary_cross_entropy_with_logits(logits, hits.float(), reduction="sum") / len(images)


def attribute_loss(head: torch.nn.Linear, embeddings: torch.Tensor, attributes: np.ndarray) -> torch.Tensor:
    """Return the cross entropy of predicting attributes from embeddings (n, d) of norm 1, summed: a scalar."""
    logits = head(embeddings * math.sqrt(embeddings.shape[1])).split(ATTRIBUTE_SIZES, dim=1)
    targets = torch.from_numpy(attributes).T
    losses = [
        torch.nn.functional.cross_entropy(answers, target, ignore_index=UNKNOWN, reduction="sum")
        for answers, target in zip(logits, targets, strict=True)
    ]
    return torch.stack(losses).sum() / len(embeddings)
