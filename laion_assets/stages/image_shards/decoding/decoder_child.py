"""The decoder process. If a native decoder crashes it, only one image fails.

    python -m laion_assets.stages.image_shards.decoding.decoder_child CONNECTION SHARED,SHARED PARENT SETTINGS

The connection is a socket. A request is the number of a shared file and the length of the body in it. The answer
describes the new content of the file: the image and its EXIF, or the error. Answers come in the order of the requests.
As many requests may wait as there are shared files. The process limits itself: CPU and wall time per image (the kernel
ends it with SIGPROF or SIGALRM), address space, and the sandbox (processes/sandbox.py). It ends with its parent.
"""

import ctypes
import json
import mmap
import os
import signal
import struct
import sys
from contextlib import suppress
from pathlib import Path

from laion_assets.dataset.fetch_policy import FetchPolicy
from laion_assets.processes import sandbox
from laion_assets.processes.parent_death import end_with
from laion_assets.stages.image_shards.settings import ImageSettings

SLOTS = 4
"""Number of shared files: one image is decoded while others wait, so that the decoder is not idle."""
REQUEST = struct.Struct("<QQ")
"""The shared file's number, and the body's length in bytes."""
ANSWER = struct.Struct("<?4iQq")
"""Success, width, height, original width and height (-1: none), the length of the image or of the error message, and
the length of the EXIF after it (-1: null). The first answer has no request; its content is the sandbox's layers."""
SHARED_BYTES = 1 << 20
"""Initial size of a shared file; it grows with the largest body."""
PIXELS_AT_BOUND = 20_000_000
"""Image size for which `images.decode_cpu_s` is the limit. Larger images get proportionally more CPU time."""
WALL_FACTOR = 20.0
"""Wall time limit of an image, as a multiple of its CPU time limit: on a busy machine the decoder waits for a core."""
_BYTES_PER_PIXEL = 24
"""Memory of the most expensive image: 8 for 16-bit RGBA, 4 for its 8-bit copy, 3 on white, and the decoder's rows."""
_SPARE_BYTES = 512 << 20
_KEPT_BYTES = 64 << 20
_LARGE_BYTES = 32 << 20
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1  # malloc.h of glibc


def main() -> None:
    """Answer requests until the parent closes the connection or ends."""
    connection, parent = int(sys.argv[1]), int(sys.argv[3])
    files = [int(file) for file in sys.argv[2].split(",")]
    images = _read_settings(sys.argv[4])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the parent ends this process
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    end_with(parent)

    from laion_assets.stages.image_shards.decoding.exif import exif_json
    from laion_assets.stages.image_shards.decoding.reencoding import Reencoder  # after end_with: imports OpenCV

    def extend_time(pixels: int) -> None:
        if pixels > PIXELS_AT_BOUND:
            _limit_time(cpu_limit_s(images, pixels))

    reencode = Reencoder(images, extend_time)
    keep_freed_memory()
    slots = [mmap.mmap(file, SHARED_BYTES) for file in files]
    os.environ.clear()
    layers = sandbox.enter(_memory_limit(images.max_pixels), _file_limit(images)).encode()
    slots[0][: len(layers)] = layers
    os.write(connection, ANSWER.pack(True, 0, 0, 0, 0, len(layers), -1))
    while request := os.read(connection, REQUEST.size):
        slot, length = REQUEST.unpack(request)
        if len(slots[slot]) < length:
            slots[slot] = mmap.mmap(files[slot], length)
        body = slots[slot][:length]
        _limit_time(images.decode_cpu_s)
        image = reencode(body)
        success = image.content is not None
        exif = exif_json(body, images.keep_personal_exif) if images.extract_exif and success else None
        _limit_time(0)
        content = image.content if image.content is not None else (image.error_message or "").encode()
        appended = (exif or "").encode()
        end = len(content) + len(appended)
        if len(slots[slot]) < end:
            os.ftruncate(files[slot], end)
            slots[slot] = mmap.mmap(files[slot], end)
        slots[slot][: len(content)] = content
        slots[slot][len(content) : end] = appended
        sizes = (image.width, image.height, image.original_width, image.original_height)
        numbers = (-1 if size is None else size for size in sizes)
        exif_length = -1 if exif is None else len(appended)
        os.write(connection, ANSWER.pack(success, *numbers, len(content), exif_length))


def _read_settings(text: str) -> ImageSettings:
    values = json.loads(text)
    return ImageSettings(**{**values, "fetch": FetchPolicy(**values["fetch"])})


def cpu_limit_s(images: ImageSettings, pixels: int) -> float:
    """Return the CPU time limit for an image of this many pixels, in seconds."""
    return images.decode_cpu_s * max(1.0, pixels / PIXELS_AT_BOUND)


def _limit_time(cpu_s: float) -> None:
    """Let the kernel end this process after `cpu_s` of CPU time or WALL_FACTOR times that of wall time; 0: no limit."""
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    signal.setitimer(signal.ITIMER_REAL, cpu_s * WALL_FACTOR)


def keep_freed_memory() -> None:
    """Reuse the freed memory of an image for the next one; allocating it again takes 0.04 ms per image."""
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def _memory_limit(max_pixels: int) -> int:
    """Return the limit of the address space in bytes: the current use plus the most expensive image."""
    used = 0
    with suppress(OSError, ValueError):
        used = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * mmap.PAGESIZE
    return used + max_pixels * _BYTES_PER_PIXEL + _SPARE_BYTES


def _file_limit(images: ImageSettings) -> int:
    """Return the limit of a shared file in bytes: the largest body, or the largest barely compressed image."""
    return max(images.fetch.max_body_bytes, 4 * images.max_pixels) + SHARED_BYTES


if __name__ == "__main__":
    main()
