"""The light modules stay light: a code location and the command line import them."""

import subprocess
import sys

LIGHT = ["reasons", "fetching.target", "fetching.addresses", "fetching.resolver", "fetching.guard",
         "fetching.robots_tag", "fetching.http_connection", "fetching.fetch", "fetching.fetch_queue", "image_header",
         "exif", "outcome", "decoder_process", "shard_fetch", "shard_files", "shard_writer", "shard_task",
         "worker_pool", "decision", "build"]  # fmt: skip
HEAVY = {"exifread", "img2dataset", "cv2", "numpy", "pyarrow", "albumentations", "webdataset", "PIL", "torch"}


def test_light_modules_import_nothing_heavy():
    names = "; ".join(f"import laion_assets.images.{name}" for name in LIGHT)
    code = f"{names}; import sys; print(sorted(set(sys.modules) & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
