"""Modules that a code location and the command line import do not import heavy libraries."""

import subprocess
import sys

LIGHT = [
    "http.urls.target",
    "http.urls.addresses",
    "http.urls.resolver",
    "http.urls.guard",
    "http.consent.robots_tag",
    "http.http_connection",
    "http.fetch",
    "http.fetch_queue",
    "reasons",
    "stages.image_shards.decoding.image_header",
    "stages.image_shards.shard.outcome",
    "processes.sandbox",
    "stages.image_shards.decoding.decoder_process",
    "stages.image_shards.shard.fetch",
    "stages.image_shards.shard.files",
    "stages.image_shards.shard.writer",
    "stages.image_shards.shard.task",
    "workers.pool",
    "stages.image_shards.preview",
    "stages.image_shards.build",
]
HEAVY = {"exifread", "img2dataset", "cv2", "numpy", "pyarrow", "albumentations", "webdataset", "PIL", "torch"}


def test_light_modules_do_not_import_heavy_libraries():
    names = "; ".join(f"import laion_assets.{name}" for name in LIGHT)
    code = f"{names}; import sys; print(sorted(set(sys.modules) & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
