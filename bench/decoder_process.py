"""CPU per image of decoding in a separate process compared with the same process, alternating every 25 images.

    python bench/decoder_process.py [--images 300]

The images are those of bench/photographs.py. CPU is the kernel's run time of the process (/proc/PID/schedstat).
Prints a JSON object as its last line.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ |= {"OPENCV_LOG_LEVEL": "ERROR"}
sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.photographs import make_photos
from laion_assets.stages.image_shards.decoding import decoder_process
from laion_assets.stages.image_shards.decoding.reencoded import Reencoded
from laion_assets.stages.image_shards.decoding.reencoding import Reencoder
from laion_assets.stages.image_shards.settings import ImageSettings

BATCH = 25
ROUNDS = 3


def main() -> None:
    """Measure and print the figures."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--images", type=int, default=300)
    count = arguments.parse_args().images
    with tempfile.TemporaryDirectory() as folder:
        make_photos(Path(folder), count, seed=5)
        bodies = [path.read_bytes() for path in sorted(Path(folder).iterdir())]
    images = ImageSettings()
    here, started = Reencoder(images), time.perf_counter()
    with decoder_process.Decoder(images):
        start_s = time.perf_counter() - started
    process = decoder_process.running_process()
    for body in bodies[:BATCH]:
        assert reencode_there(images, [body]) == [here(body)]
    inside = worker = child = 0.0
    for _ in range(ROUNDS):
        for first in range(0, count, BATCH):
            batch = bodies[first : first + BATCH]
            before = cpu_s(os.getpid())
            for body in batch:
                here(body)
            between, child_before = cpu_s(os.getpid()), cpu_s(process)
            reencode_there(images, batch)
            inside += between - before
            worker += cpu_s(os.getpid()) - between
            child += cpu_s(process) - child_before
    images_done = ROUNDS * count
    figures = {
        "in_process_ms": 1e3 * inside / images_done,
        "worker_ms": 1e3 * worker / images_done,
        "child_ms": 1e3 * child / images_done,
        "more": (worker + child) / inside - 1,
        "start_s": start_s,
    }
    print(json.dumps({"bench": "decoder_process", **{name: round(value, 4) for name, value in figures.items()}}))


def reencode_there(images: ImageSettings, bodies: list[bytes]) -> list[Reencoded]:
    """Re-encode the bodies in the decoder process, as a shard does."""
    done = []
    with decoder_process.Decoder(images) as decoder:
        for body in bodies:
            if decoder.full:
                done.append(decoder.take().reencoded)
            decoder.put(body)
        return done + [decoder.take().reencoded for _ in range(len(bodies) - len(done))]


def cpu_s(process: int) -> float:
    """Return the CPU seconds of a process's main thread."""
    return int(Path(f"/proc/{process}/schedstat").read_text(encoding="utf-8").split()[0]) / 1e9


if __name__ == "__main__":
    main()
