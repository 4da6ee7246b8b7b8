"""The process that decodes: what a native decoder does to it costs one picture.

    python -m laion_assets.images.decoder_child CONNECTION SHARED,SHARED PARENT SETTINGS

A request on the connection, a socket, is the number of a shared file and the length of the body that lies in it; the
answer says what lies there then, the picture or the error. Answers come in the order of the requests, of which as many
may wait as there are files. The process bounds itself: CPU and wall time a picture (the kernel ends it by SIGPROF or
SIGALRM), address space, and it ends with its parent, however that ends.
"""

import ctypes
import json
import mmap
import os
import resource
import signal
import struct
import sys
from contextlib import suppress
from pathlib import Path

from laion_assets.images.parent_end import end_with
from laion_assets.images.settings import ImageSettings

SLOTS = 4
"""Shared files: one picture is made while others lie ready, for the system may keep a worker waiting at any time."""
REQUEST = struct.Struct("<QQ")
"""The shared file's number, and the body's length in bytes."""
ANSWER = struct.Struct("<?4iQ")
"""Success, width, height, original width and height (-1: none), and the length of the picture or the error text."""
READY = ANSWER.pack(True, 0, 0, 0, 0, 0)
"""What the process sends first."""
_WALL_FACTOR = 20.0
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
    images = ImageSettings(**json.loads(sys.argv[4]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    end_with(parent)

    from laion_assets.images.reencoding import Reencoder  # the parent may end while OpenCV is imported

    reencode = Reencoder(images)
    keep_freed_memory()
    _bound_memory(images.max_pixels)
    slots = [mmap.mmap(file, 0) for file in files]
    os.write(connection, READY)
    while request := os.read(connection, REQUEST.size):
        slot, length = REQUEST.unpack(request)
        if len(slots[slot]) < length:
            slots[slot] = mmap.mmap(files[slot], 0)
        signal.setitimer(signal.ITIMER_PROF, images.decode_cpu_s)
        signal.setitimer(signal.ITIMER_REAL, images.decode_cpu_s * _WALL_FACTOR)
        picture, *sizes, error = reencode(slots[slot][:length])
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        content = picture if picture is not None else (error or "").encode()
        if len(slots[slot]) < len(content):
            os.ftruncate(files[slot], len(content))
            slots[slot] = mmap.mmap(files[slot], 0)
        slots[slot][: len(content)] = content
        numbers = (-1 if size is None else size for size in sizes)
        os.write(connection, ANSWER.pack(picture is not None, *numbers, len(content)))


def keep_freed_memory() -> None:
    """The memory of one picture is used again for the next; asking the system anew for each costs 0.04 ms a picture."""
    with suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def _bound_memory(max_pixels: int) -> None:
    with suppress(OSError, ValueError):  # where the system has no such bound, its own has to do
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * mmap.PAGESIZE
        bound = used + max_pixels * _BYTES_PER_PIXEL + _SPARE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (bound, bound))


if __name__ == "__main__":
    main()
