"""The process that decodes: what a native decoder does to it costs one picture.

    python -m laion_assets.stages.image_shards.decoding.decoder_child CONNECTION SHARED,SHARED PARENT SETTINGS

A request on the connection, a socket, is the number of a shared file and the length of the body that lies in it; the
answer says what lies there then, the image and its EXIF or the error. Answers come in the order of the requests, of
which as many may wait as there are files. The process bounds itself: CPU and wall time per image (the kernel ends it by
SIGPROF or SIGALRM), address space, the sandbox (decoder_sandbox.py), and it ends with its parent, however that ends.
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

from laion_assets.http.policy import FetchPolicy
from laion_assets.processes import sandbox as decoder_sandbox
from laion_assets.processes.parent_death import end_with
from laion_assets.stages.image_shards.settings import ImageSettings

SLOTS = 4
"""Shared files: one picture is made while others lie ready, for the system may keep a worker waiting at any time."""
REQUEST = struct.Struct("<QQ")
"""The shared file's number, and the body's length in bytes."""
ANSWER = struct.Struct("<?4iQq")
"""Success, width, height, original width and height (-1: none), the length of the image or of the error text, and the
length of the EXIF behind it (-1: null). The first answer, without a request, comes with the layers of the sandbox."""
SHARED_BYTES = 1 << 20
"""Of a shared file at first; it grows with the largest body."""
PIXELS_AT_BOUND = 20_000_000
"""What `images.decode_cpu_s` is for; larger images get more CPU time in proportion."""
WALL_FACTOR = 20.0
"""Wall time a picture may take, in CPU bounds: on a crowded machine the decoder waits, which is not its fault."""
_BYTES_PER_PIXEL = 24
"""The dearest picture: 16-bit RGBA is 8, its 8-bit copy 4, that on white 3, and the decoder's own rows."""
_SPARE_BYTES = 512 << 20
_KEPT_BYTES = 64 << 20
_LARGE_BYTES = 32 << 20
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1  # malloc.h of glibc


def main() -> None:
    """Serve until the parent closes the connection or ends."""
    connection, parent = int(sys.argv[1]), int(sys.argv[3])
    files = [int(file) for file in sys.argv[2].split(",")]
    images = _read_settings(sys.argv[4])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    end_with(parent)

    from laion_assets.stages.image_shards.decoding.exif import exif_json
    from laion_assets.stages.image_shards.decoding.reencoding import (
        Reencoder,  # the parent may end while OpenCV is imported
    )

    def extend_time(pixels: int) -> None:
        if pixels > PIXELS_AT_BOUND:
            _limit_time(cpu_bound_s(images, pixels))

    reencode = Reencoder(images, extend_time)
    keep_freed_memory()
    slots = [mmap.mmap(file, SHARED_BYTES) for file in files]
    os.environ.clear()
    layers = decoder_sandbox.enter(_memory_bound(images.max_pixels), _file_bound(images)).encode()
    slots[0][: len(layers)] = layers
    os.write(connection, ANSWER.pack(True, 0, 0, 0, 0, len(layers), -1))
    while request := os.read(connection, REQUEST.size):
        slot, length = REQUEST.unpack(request)
        if len(slots[slot]) < length:
            slots[slot] = mmap.mmap(files[slot], length)
        body = slots[slot][:length]
        _limit_time(images.decode_cpu_s)
        image, *sizes, error = reencode(body)
        exif = exif_json(body, images.keep_personal_exif) if images.extract_exif and image is not None else None
        _limit_time(0)
        content = image if image is not None else (error or "").encode()
        appended = (exif or "").encode()
        end = len(content) + len(appended)
        if len(slots[slot]) < end:
            os.ftruncate(files[slot], end)
            slots[slot] = mmap.mmap(files[slot], end)
        slots[slot][: len(content)] = content
        slots[slot][len(content) : end] = appended
        numbers = (-1 if size is None else size for size in sizes)
        exif_length = -1 if exif is None else len(appended)
        os.write(connection, ANSWER.pack(image is not None, *numbers, len(content), exif_length))


def _read_settings(text: str) -> ImageSettings:
    values = json.loads(text)
    return ImageSettings(**{**values, "fetch": FetchPolicy(**values["fetch"])})


def cpu_bound_s(images: ImageSettings, pixels: int) -> float:
    """Seconds of CPU for an image of this many pixels."""
    return images.decode_cpu_s * max(1.0, pixels / PIXELS_AT_BOUND)


def _limit_time(cpu_s: float) -> None:
    """Let the kernel end this process after so much CPU time from now, or WALL_FACTOR times that; 0: no longer."""
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    signal.setitimer(signal.ITIMER_REAL, cpu_s * WALL_FACTOR)


def keep_freed_memory() -> None:
    """The memory of one picture is used again for the next; asking the system anew for each costs 0.04 ms a picture."""
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def _memory_bound(max_pixels: int) -> int:
    """Bytes of address space: what the process uses now and the most expensive image."""
    used = 0
    with suppress(OSError, ValueError):
        used = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * mmap.PAGESIZE
    return used + max_pixels * _BYTES_PER_PIXEL + _SPARE_BYTES


def _file_bound(images: ImageSettings) -> int:
    """Bytes of a shared file: the largest body, or the largest image with little compression."""
    return max(images.fetch.max_body_bytes, 4 * images.max_pixels) + SHARED_BYTES


if __name__ == "__main__":
    main()
