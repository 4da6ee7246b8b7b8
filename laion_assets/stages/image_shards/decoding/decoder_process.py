"""The decoder: a process of its own that every body is handed to, which nothing outlives.

One decoder process serves a worker process for all its shards. It works on one picture while others lie ready, so
that it does not wait for the worker. A picture that ends it (a crash in a native decoder, the time or memory bound) is
tried once more in a new one, so that an end that has other causes (the kernel's out-of-memory killer) does not become
the picture's; ended again, the picture has the reason `decoder_crash` or `decode_timeout`.
"""

import atexit
import fcntl
import json
import logging
import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections import deque
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from laion_assets.errors import ShardError
from laion_assets.processes.parent_death import import_path
from laion_assets.reasons import Reason
from laion_assets.stages.image_shards.decoding.decoder_child import (
    ANSWER,
    REQUEST,
    SHARED_BYTES,
    SLOTS,
    WALL_FACTOR,
    cpu_bound_s,
)
from laion_assets.stages.image_shards.settings import ImageSettings

if TYPE_CHECKING:
    from laion_assets.stages.image_shards.decoding.reencoding import Reencoded

START_S = 60.0
"""A process that has not imported OpenCV by then will not."""
STOP_S = 1.0
"""How long a process may take to end before it is killed."""
_MAX_ERROR_BYTES = 1_000
_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE")
"""Of the environment, what a Python may need to start. Nothing else of it reaches the process."""


def reencode(images: ImageSettings, body: bytes) -> "Reencoded":
    """One picture, reencoded in the decoder process of this process. Raises ShardError when none starts."""
    with Decoder(images) as decoder:
        decoder.put(body)
        return decoder.take().reencoded


class Answer(NamedTuple):
    """What the decoder made of a body: the encoded image, its width and height, those of the original, and the error,
    which starts with a Reason; and the value of the column `exif` (None without an image and where it is unreadable).
    """

    reencoded: "Reencoded"
    exif: str | None


class Decoder:
    """The decoder process of this process while it is entered; one at a time has it.

    Bodies go in by `put`, while it is not `full`, and come out by `take` in the same order.
    """

    def __init__(self, images: ImageSettings) -> None:
        self._images = images
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._puts = 0

    def __enter__(self) -> "Decoder":
        """Start the process, unless it runs. Raises ShardError when it does not start."""
        _lock.acquire()
        try:
            _process_of(self._images)
        except BaseException:
            _lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._waiting:  # an answer that nobody takes would be the next picture's
            _stop_running()
        _lock.release()

    @property
    def full(self) -> bool:
        """Whether as many bodies as may be wait for their answers."""
        return len(self._waiting) == SLOTS

    def put(self, body: bytes) -> None:
        """Hand over a body; it is copied. Raises ShardError when no process starts in the place of one that ended."""
        process = _process_of(self._images) if not self._waiting else _running
        slot = self._puts % SLOTS
        self._puts += 1
        self._waiting.append((slot, body))
        if process is not None:
            process.send(slot, body)

    def take(self) -> Answer:
        """The answer for the body that waits longest. Raises ShardError as `put`."""
        slot, body = self._waiting[0]
        answer = _running.receive(slot) if _running is not None else _End(0)
        if isinstance(answer, _End):
            if answer.reason is Reason.DECODER_CRASH:
                process = _process_of(self._images)
                process.send(slot, body)
                answer = process.receive(slot)
            process = _process_of(self._images)
            for other in list(self._waiting)[1:]:
                process.send(*other)
        self._waiting.popleft()
        if isinstance(answer, _End):
            return _failed(f"{answer.reason.value}: {answer.detail}")
        return answer


def _failed(error: str) -> Answer:
    return Answer((None, None, None, None, None, error), None)


class _End:
    """How a process ended over a picture."""

    def __init__(self, code: int) -> None:
        timeout = code in (-signal.SIGPROF, -signal.SIGALRM)
        self.reason = Reason.DECODE_TIMEOUT if timeout else Reason.DECODER_CRASH
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        self.detail = "the decoder's time is over" if timeout else f"the decoder ended by {how}"


class _Slot:
    """A file in memory that both processes see, for one body and then its picture."""

    def __init__(self) -> None:
        self.file = _shared_file()
        os.ftruncate(self.file, SHARED_BYTES)
        self._shared = mmap.mmap(self.file, 0)

    def write(self, body: bytes) -> None:
        if len(body) > len(self._shared):
            size = max(len(body), os.fstat(self.file).st_size)  # it never shrinks, whoever let it grow
            os.ftruncate(self.file, size)
            self._shared = mmap.mmap(self.file, size)
        self._shared[: len(body)] = body

    def read(self, length: int) -> bytes:
        """Raises ValueError or OverflowError for more than the file holds."""
        if length > len(self._shared):
            self._shared = mmap.mmap(self.file, length)
        return self._shared[:length]

    def close(self) -> None:
        """At any time, also again: the number of a closed file is soon another's."""
        if self.file >= 0:
            self._shared.close()
            os.close(self.file)
            self.file = -1


class _DecoderProcess:
    def __init__(self, images: ImageSettings) -> None:
        self.images = images
        self.owner = os.getpid()
        self._slots = [_Slot() for _ in range(SLOTS)]
        files = [slot.file for slot in self._slots]
        self._connection, theirs = socket.socketpair()
        arguments = [str(theirs.fileno()), ",".join(map(str, files)), str(os.getpid()), json.dumps(asdict(images))]
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "laion_assets.stages.image_shards.decoding.decoder_child", *arguments],
            pass_fds=(theirs.fileno(), *files),
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        self._connection.settimeout(START_S)
        started = self._received()
        if len(started) < ANSWER.size:
            self.stop()
            raise ShardError(
                f"The decoder process did not start (exit status {self._process.returncode}): run `{sys.executable} -c "
                "'import cv2'` to see why, and look at the limits of memory and processes."
            )
        self.sandbox = self._slots[0].read(ANSWER.unpack(started)[-2]).decode()
        _log.log(logging.INFO if "seccomp" in self.sandbox else logging.WARNING, "decoder sandbox: %s", self.sandbox)
        # The process ends itself within WALL_FACTOR; one that a stranger's image took over might not.
        self._connection.settimeout(cpu_bound_s(images, images.max_pixels) * WALL_FACTOR + START_S)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, slot: int, body: bytes) -> None:
        """Hand over a body; whether the process still lives shows when its answer is received."""
        self._slots[slot].write(body)
        with suppress(OSError):
            self._connection.sendall(REQUEST.pack(slot, len(body)))

    def receive(self, slot: int) -> "Answer | _End":
        """The next answer, or how the process ended; it is of no use then."""
        try:
            success, *numbers, length, exif_length = ANSWER.unpack(self._received())
            content = self._slots[slot].read(length + max(exif_length, 0))
        except (struct.error, ValueError, OverflowError):  # it ended, or it says what no decoder of ours says
            self.stop()
            return _End(self._process.returncode)
        if not success:
            return _failed(content[:_MAX_ERROR_BYTES].decode(errors="replace"))
        width, height, original_width, original_height = (None if number < 0 else number for number in numbers)
        exif = None if exif_length < 0 else content[length:].decode(errors="replace")
        return Answer((content[:length], width, height, original_width, original_height, None), exif)

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
        for slot in self._slots:
            slot.close()

    def _received(self) -> bytes:
        try:
            return self._connection.recv(ANSWER.size, socket.MSG_WAITALL)
        except OSError:
            return b""


def running_process() -> int | None:
    """The process id of this process's decoder, None before there is one."""
    return None if _running is None else _running.pid


def sandbox_in_force() -> str:
    """The layers of the sandbox of this process's decoder, "" before there is one."""
    return "" if _running is None else _running.sandbox


_log = logging.getLogger(__name__)
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
    global _running
    if _running is not None and _running.owner == os.getpid():
        _running.stop()
        _running = None


def _shared_file() -> int:
    """A file in memory without a name, where the system has such; else a temporary one, already unlinked.

    One in memory cannot shrink: reading beyond its end would end this process.
    """
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("laion-assets-body", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
        return file
    with tempfile.TemporaryFile() as temporary:
        return os.dup(temporary.fileno())


def _environment() -> dict[str, str]:
    """Our import path, what Python needs, and one thread for linear algebra, whose stacks count as memory."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**kept, **threads, "PYTHONPATH": import_path(), "OPENCV_LOG_LEVEL": "ERROR"}
