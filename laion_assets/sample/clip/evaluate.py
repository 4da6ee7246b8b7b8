"""Evaluate the CLIP model of the sample: `python -m laion_assets.sample.clip.evaluate --help`.

The images pass the whole pipeline: drawn at the sizes of the crawl, JPEG, img2dataset's resizer (border, 256 pixels,
quality 95), and the preprocessing of open_clip for the checkpoint. Captions are evaluated on combinations of objects
and relation that were held out of training, with captions that differ in content. Short queries ("a red circle",
"circle", "something green") are evaluated on the images of the crawl.
"""

import argparse
import io
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from laion_assets.models.open_clip_package import import_open_clip
from laion_assets.sample.clip.batches import training_image
from laion_assets.sample.clip.model import ARCHITECTURE, CHECKPOINT, EVALUATION
from laion_assets.sample.clip.short_query_precision import (
    crawl_images,
    queries_by_kind,
    query_precisions,
    summarize_precisions,
)
from laion_assets.sample.originals import grey_jpeg, jpeg
from laion_assets.sample.pages import Page, original_size
from laion_assets.sample.scenes import Scene, draw_scene, render

IMAGES = 1_000
SEED = 1_000_003
_BATCH = 250
_HISTOGRAM_BINS = 6
"""Bins per channel of the colour histogram."""
_BASELINE_IMAGES = 4_000
"""The number of training images of the histogram baseline."""
_RIDGE = 1.0


def main() -> None:
    """Evaluate the model and write the results as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m laion_assets.sample.clip.evaluate",
        description="Evaluate the sample CLIP: recall on held-out scenes, and precision of short queries.",
    )
    parser.add_argument(
        "--weights", type=Path, default=CHECKPOINT, help="checkpoint to evaluate (default: the one of the package)"
    )
    parser.add_argument("--images", type=int, default=IMAGES, help="number of images to search (default %(default)s)")
    parser.add_argument(
        "--out", type=Path, default=EVALUATION, help="JSON file to write (default: next to the weights)"
    )
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    began = time.monotonic()
    figures = evaluate(options.weights, options.images)
    text = json.dumps(figures, indent=4) + "\n"
    options.out.write_text(text, encoding="utf-8")
    print(text + f"written to {options.out} after {time.monotonic() - began:.0f} s")


def evaluate(weights: Path | None, images: int = IMAGES) -> dict[str, object]:
    """Compute `evaluation.json`: recall of the model and its baselines, and the accuracy on swapped pairs."""
    held_out = distinct_scenes(images, held_out=True)
    seen = distinct_scenes(images, held_out=False)
    stored = [pipeline_jpeg(scene, number) for number, scene in enumerate(held_out)]
    stored_seen = [pipeline_jpeg(scene, number) for number, scene in enumerate(seen)]
    stored_swapped = [pipeline_jpeg(scene.swapped, number) for number, scene in enumerate(held_out)]
    captions, swapped = [s.caption for s in held_out], [s.swapped.caption for s in held_out]
    trained = Encoder(weights)
    of_images, of_captions = trained.images(stored), trained.captions(captions)
    of_swapped_images, of_swapped_captions = trained.images(stored_swapped), trained.captions(swapped)
    right = (of_images * of_captions).sum(1)
    torch.manual_seed(0)
    untrained = Encoder(None)
    return {
        "images": images,
        "protocol": "held-out combinations, distinct captions, 256-pixel JPEG, open_clip's preprocessing",
        "held_out": recalls(of_captions @ of_images.T),
        "seen_combinations": recalls(trained.captions([s.caption for s in seen]) @ trained.images(stored_seen).T),
        "swapped_pairs": {
            "caption_accuracy": _share(right > (of_images * of_swapped_captions).sum(1)),
            "image_accuracy": _share(right > (of_swapped_images * of_captions).sum(1)),
            "chance": 0.5,
        },
        "short_queries": evaluate_short_queries(trained),
        "colour_histogram": recalls(_histogram_similarity(stored, captions)),
        "untrained": recalls(untrained.captions(captions) @ untrained.images(stored).T),
    }


def evaluate_short_queries(encoder: "Encoder") -> dict[str, object]:
    """Return precision@10 of queries for an object, a shape or a colour over the images of the crawl, by kind."""
    pages = crawl_images()
    images = encoder.images([crawl_jpeg(page) for page in pages])
    figures: dict[str, object] = {"images": len(pages)}
    for kind, queries in queries_by_kind().items():
        similarity = encoder.captions([text for text, _ in queries]) @ images.T
        figures[kind] = summarize_precisions(query_precisions(similarity, [query for _, query in queries], pages))
    return figures


def distinct_scenes(count: int, held_out: bool, seed: int = SEED) -> list[Scene]:
    """Draw `count` scenes with different content, also when described from the other object."""
    rng = np.random.default_rng((seed, int(held_out)))
    scenes: dict[frozenset[str], Scene] = {}
    while len(scenes) < count:
        scene = draw_scene(rng, held_out)
        scenes.setdefault(frozenset((scene.caption, scene.inverted.caption)), scene)
    return list(scenes.values())


def crawl_jpeg(page: Page) -> bytes:
    """Encode the scene of a page as a shard stores it, without colours if the site serves it so."""
    return pipeline_jpeg(page.scene, page.index, grey_jpeg if page.kind == "grey_jpeg" else jpeg)


def pipeline_jpeg(scene: Scene, number: int, encode: Callable[[np.ndarray], bytes] = jpeg) -> bytes:
    """Encode a scene as a shard stores it: an original of a size of the crawl, resized by img2dataset to 256 px."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    os.environ.setdefault("WANDB_MODE", "disabled")
    from img2dataset.resizer import Resizer

    width, height = original_size(np.random.default_rng((SEED, number)))
    resize = Resizer(image_size=256, resize_mode="border", resize_only_if_bigger=False, encode_quality=95)
    stored, *_, error = resize(io.BytesIO(encode(render(scene, width, height))))
    if stored is None:
        raise RuntimeError(f"img2dataset failed to resize scene {number}: {error}")
    return bytes(stored)


def recalls(similarity: np.ndarray) -> dict[str, float]:
    """Return recall@1 and recall@10 of (captions, images) similarities. The diagonal is right. Ties count as misses."""
    right = np.diagonal(similarity)[:, None]
    better = (similarity >= right).sum(1) - 1
    return {"recall_at_1": _share(better < 1), "recall_at_10": _share(better < 10)}


class Encoder:
    """A CLIP model of `ARCHITECTURE`, loaded with open_clip. `weights` None is the untrained model."""

    def __init__(self, weights: Path | None):
        open_clip = import_open_clip(ARCHITECTURE)
        name = None if weights is None else str(weights.absolute())
        self.model, _, self.preprocess = open_clip.create_model_and_transforms(ARCHITECTURE, pretrained=name)
        self.model.eval()
        self.tokenizer = open_clip.get_tokenizer(ARCHITECTURE)

    @torch.no_grad()
    def images(self, stored: list[bytes]) -> np.ndarray:
        """Embed n encoded images: (n, d) float32, rows of norm 1."""
        rows = []
        for start in range(0, len(stored), _BATCH):
            opened = (Image.open(io.BytesIO(body)) for body in stored[start : start + _BATCH])
            tensors = [self.preprocess(image) for image in opened]
            rows.append(self.model.encode_image(torch.stack(tensors), normalize=True).numpy())
        return np.concatenate(rows)

    @torch.no_grad()
    def captions(self, captions: list[str]) -> np.ndarray:
        """Embed n captions: (n, d) float32, rows of norm 1."""
        return self.model.encode_text(self.tokenizer(captions), normalize=True).numpy()


def _histogram_similarity(stored: list[bytes], captions: list[str]) -> np.ndarray:
    """Return (captions, images) similarities of a baseline that only counts colours.

    Ridge regression predicts the colour histogram of an image from the words of a caption. The similarity is the cosine
    of predicted and real histograms. It is fitted on training scenes.
    """
    rng = np.random.default_rng(SEED)
    scenes = [draw_scene(rng, held_out=False) for _ in range(_BASELINE_IMAGES)]
    words = sorted({word for scene in scenes for word in scene.caption.split()})
    known = _count_words(words, [scene.caption for scene in scenes])
    histograms = np.stack([_histogram(training_image(scene, rng)) for scene in scenes])
    mean = histograms.mean(0)
    weights = np.linalg.solve(known.T @ known + _RIDGE * np.eye(len(words)), known.T @ (histograms - mean))
    predicted = _count_words(words, captions) @ weights
    real = np.stack([_histogram(np.asarray(Image.open(io.BytesIO(body)).resize((64, 64)))) for body in stored]) - mean
    return _normalise(predicted) @ _normalise(real).T


def _normalise(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _count_words(words: list[str], captions: list[str]) -> np.ndarray:
    split = [caption.split() for caption in captions]
    return np.array([[caption.count(word) for word in words] for caption in split], np.float64)


def _histogram(pixels: np.ndarray) -> np.ndarray:
    """Return the square root of the shares of `_HISTOGRAM_BINS`^3 colours in (H, W, 3) uint8 pixels."""
    binned = pixels.reshape(-1, 3).astype(np.int64) * _HISTOGRAM_BINS // 256
    numbers = binned @ np.array([_HISTOGRAM_BINS**2, _HISTOGRAM_BINS, 1])
    return np.sqrt(np.bincount(numbers, minlength=_HISTOGRAM_BINS**3) / len(numbers))


def _share(hits: np.ndarray) -> float:
    return round(float(np.mean(hits)), 4)


if __name__ == "__main__":
    main()
