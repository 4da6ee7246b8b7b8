"""The resizer that img2dataset's Downloader calls: it hands each body to a process of its own, which nothing outlives.

One decoder process serves a worker process for all its shards. A picture that ends it (a crash in a native decoder, the
time or memory bound) is tried once more in a new one, so that an end that has other causes (the kernel's out-of-memory
killer) does not become the picture's; ended again, the picture has the reason `decoder_crash` or `decode_timeout`.
"""

import atexit
import io
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from laion_assets.errors import ShardError
from laion_assets.images.decoder_child import ANSWER, READY, REQUEST
from laion_assets.images.parent_end import import_path
from laion_assets.images.reasons import Reason
from laion_assets.images.reencoding import Reencoded
from laion_assets.images.settings import ImageSettings

START_S = 60.0
"""A process that has not imported OpenCV by then will not."""
STOP_S = 1.0
"""How long a process may take to end before it is killed."""
_SHARED_BYTES = 1 << 20
"""Of the shared file at first; it grows with the largest body."""


class GuardedResizer:
    """Decodes, resizes and encodes pictures in the decoder process of this process. Thread-safe: one at a time."""

    def __init__(self, images: ImageSettings) -> None:
        """Start the process, unless it runs. Raises ShardError when it does not start."""
        self._images = images
        with _lock:
            _process_of(images)

    def __call__(self, img_stream: io.BytesIO, blurring_bbox_list: Any = None) -> Reencoded:
        """The encoded picture, its width and height, those of the original, and the error, which starts with a Reason.

        Raises ShardError when no process starts in the place of one that ended.
        """
        body = img_stream.getvalue()
        with _lock:
            answer = _process_of(self._images).reencode(body)
            if isinstance(answer, _End) and answer.reason is Reason.DECODER_CRASH:
                answer = _process_of(self._images).reencode(body)
        if isinstance(answer, _End):
            return None, None, None, None, None, f"{answer.reason.value}: {answer.detail}"
        return answer


class _End:
    """How a process ended over a picture."""

    def __init__(self, code: int) -> None:
        timeout = code in (-signal.SIGPROF, -signal.SIGALRM)
        self.reason = Reason.DECODE_TIMEOUT if timeout else Reason.DECODER_CRASH
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        self.detail = "the decoder's time is over" if timeout else f"the decoder ended by {how}"


class _DecoderProcess:
    def __init__(self, images: ImageSettings) -> None:
        self.images = images
        self.owner = os.getpid()
        self._file = _shared_file()
        os.ftruncate(self._file, _SHARED_BYTES)
        self._shared = mmap.mmap(self._file, 0)
        self._connection, theirs = socket.socketpair()
        arguments = [str(theirs.fileno()), str(self._file), str(os.getpid()), json.dumps(asdict(images))]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "laion_assets.images.decoder_child", *arguments],
            pass_fds=(theirs.fileno(), self._file),
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        self._connection.settimeout(START_S)
        if self._received() != READY:
            self.stop()
            raise ShardError(
                f"The decoder process did not start (exit status {self._process.returncode}): run `{sys.executable} -c "
                "'import cv2'` to see why, and look at the limits of memory and processes."
            )
        self._connection.settimeout(None)  # from here on the process ends itself, and with it the connection

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def reencode(self, body: bytes) -> "Reencoded | _End":
        """The result, or how the process ended; it is of no use then."""
        if len(body) > len(self._shared):
            os.ftruncate(self._file, len(body))
            self._shared = mmap.mmap(self._file, 0)
        self._shared[: len(body)] = body
        with suppress(OSError):
            self._connection.sendall(REQUEST.pack(len(body)))
        answer = self._received()
        if len(answer) < ANSWER.size:
            self.stop()
            return _End(self._process.returncode)
        success, *numbers, length = ANSWER.unpack(answer)
        if length > len(self._shared):
            self._shared = mmap.mmap(self._file, 0)
        content = self._shared[:length]
        if not success:
            return None, None, None, None, None, content.decode(errors="replace")
        width, height, original_width, original_height = (None if number < 0 else number for number in numbers)
        return content, width, height, original_width, original_height, None

    def stop(self) -> None:
        """End the process; one that is ending by itself ends its own way."""
        self.release()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        self._process.kill()
        self._process.wait()

    def release(self) -> None:
        """Let go of what is shared with the process; it ends when nobody holds its connection."""
        self._connection.close()
        self._shared.close()
        with suppress(OSError):
            os.close(self._file)

    def _received(self) -> bytes:
        try:
            return self._connection.recv(ANSWER.size)
        except OSError:
            return b""


def running_process() -> int | None:
    """The process id of this process's decoder, None before there is one."""
    return None if _running is None else _running.pid


_lock = threading.Lock()
_running: _DecoderProcess | None = None


def _process_of(images: ImageSettings) -> _DecoderProcess:
    """This process's decoder with these settings. One that ended while it was idle is replaced: no picture's fault."""
    global _running
    if _running is not None and _running.owner != os.getpid():
        _running.release()  # this process was forked from its owner
        _running = None
    if _running is not None and (_running.images != images or not _running.alive):
        _running.stop()
        _running = None
    if _running is None:
        _running = _DecoderProcess(images)
    return _running


@atexit.register
def _stop_running() -> None:
    if _running is not None and _running.owner == os.getpid():
        _running.stop()


def _shared_file() -> int:
    """A file in memory without a name, where the system has such; else a temporary one, already unlinked."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("laion-assets-body")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _environment() -> dict[str, str]:
    """Ours, with our import path, and without the threads of linear algebra, whose stacks count as memory."""
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**os.environ, **threads, "PYTHONPATH": import_path(), "OPENCV_LOG_LEVEL": "ERROR"}
