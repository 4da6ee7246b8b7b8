"""The worker's side of the decoder process, in which every body is decoded.

One decoder process serves a worker process for all its shards and ends with it. It works on one image while others
wait, so that it is not idle. An image that crashes it is tried once more in a new process, because the crash may have
another cause, such as the kernel's out-of-memory killer. If the second try also crashes, the row fails as
`decoder_crash`. An image over its time limit fails as `decode_timeout` without another try.
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
from dataclasses import asdict, dataclass
from types import TracebackType

from laion_assets.errors import ShardError
from laion_assets.processes.parent_death import import_path
from laion_assets.reasons import Reason
from laion_assets.stages.image_shards.decoding.decoder_child import (
    ANSWER,
    REQUEST,
    SHARED_BYTES,
    SLOTS,
    WALL_FACTOR,
    cpu_limit_s,
)
from laion_assets.stages.image_shards.decoding.reencoded import Reencoded
from laion_assets.stages.image_shards.settings import ImageSettings

START_S = 60.0
"""Start timeout, in seconds; includes the import of OpenCV."""
STOP_S = 1.0
"""Seconds in which a process may end before it is killed."""
_MAX_ERROR_BYTES = 1_000
_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE")
"""Environment variables that Python may need to start. The decoder process gets no others."""


def reencode(images: ImageSettings, body: bytes) -> Reencoded:
    """Re-encode one image in the decoder process. Raises ShardError if the process does not start."""
    with Decoder(images) as decoder:
        decoder.put(body)
        return decoder.take().reencoded


@dataclass(frozen=True, slots=True)
class Answer:
    """The decoder's result for one body: the image or the failure, and the value of the column `exif`.

    `exif` is None without an image and if the EXIF is unreadable.
    """

    reencoded: Reencoded
    exif: str | None = None


class Decoder:
    """A context manager with exclusive use of this worker's decoder process.

    `put` adds a body, as long as it is not `full`; `take` returns the answers in the same order.
    """

    def __init__(self, images: ImageSettings) -> None:
        self._images = images
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._puts = 0

    def __enter__(self) -> "Decoder":
        """Start the process unless it is running. Raises ShardError if it does not start."""
        _lock.acquire()
        try:
            _ensure_process(self._images)
        except BaseException:
            _lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._waiting:  # an answer left over would be taken for the next image's
            _stop_running()
        _lock.release()

    @property
    def full(self) -> bool:
        """Whether the maximum number of bodies are waiting for their answers."""
        return len(self._waiting) == SLOTS

    def put(self, body: bytes) -> None:
        """Add a body; it is copied. Raises ShardError if a process that ended cannot be replaced."""
        process = _ensure_process(self._images) if not self._waiting else _running
        slot = self._puts % SLOTS
        self._puts += 1
        self._waiting.append((slot, body))
        if process is not None:
            process.send(slot, body)

    def take(self) -> Answer:
        """Return the answer for the body that waits longest. Raises ShardError as `put` does."""
        slot, body = self._waiting[0]
        answer = _running.receive(slot) if _running is not None else _End(0)
        if isinstance(answer, _End):
            if answer.reason is Reason.DECODER_CRASH:
                process = _ensure_process(self._images)
                process.send(slot, body)
                answer = process.receive(slot)
            process = _ensure_process(self._images)
            for other in list(self._waiting)[1:]:
                process.send(*other)
        self._waiting.popleft()
        if isinstance(answer, _End):
            return Answer(Reencoded(reason=answer.reason, detail=answer.detail))
        return answer


def _read_failure(error: str) -> Reencoded:
    """Return the failure for the error message of a decoder process, which may be under an attacker's control."""
    name, _, detail = error.partition(": ")
    if name in Reason._value2member_map_ and name != Reason.SUCCESS:
        return Reencoded(reason=Reason(name), detail=detail)
    return Reencoded(reason=Reason.INTERNAL, detail=error)


class _End:
    """The end of a process while it decoded an image."""

    def __init__(self, code: int) -> None:
        timeout = code in (-signal.SIGPROF, -signal.SIGALRM)
        self.reason = Reason.DECODE_TIMEOUT if timeout else Reason.DECODER_CRASH
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        self.detail = "the decoder's time is over" if timeout else f"the decoder ended by {how}"


class _Slot:
    """A file in memory shared by both processes, for one body and then its image."""

    def __init__(self) -> None:
        self.file = _open_shared_file()
        os.ftruncate(self.file, SHARED_BYTES)
        self._shared = mmap.mmap(self.file, 0)

    def write(self, body: bytes) -> None:
        if len(body) > len(self._shared):
            size = max(
                len(body), os.fstat(self.file).st_size
            )  # it never shrinks; the other process may have extended it
            os.ftruncate(self.file, size)
            self._shared = mmap.mmap(self.file, size)
        self._shared[: len(body)] = body

    def read(self, length: int) -> bytes:
        """Return the first `length` bytes. Raises ValueError or OverflowError if the file is shorter."""
        if length > len(self._shared):
            self._shared = mmap.mmap(self.file, length)
        return self._shared[:length]

    def close(self) -> None:
        """Close the file. Safe to call again: another file may already have the same descriptor."""
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
        started = self._receive_header()
        if len(started) < ANSWER.size:
            self.stop()
            raise ShardError(
                f"The decoder process did not start (exit status {self._process.returncode}). Run `{sys.executable} -c "
                "'import cv2'` to see the error, and check the limits of memory and processes (ulimit -a)."
            )
        self.sandbox = self._slots[0].read(ANSWER.unpack(started)[-2]).decode()
        _log.log(logging.INFO if "seccomp" in self.sandbox else logging.WARNING, "decoder sandbox: %s", self.sandbox)
        # The process ends itself within WALL_FACTOR, unless an image has taken control of it.
        self._connection.settimeout(cpu_limit_s(images, images.max_pixels) * WALL_FACTOR + START_S)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, slot: int, body: bytes) -> None:
        """Send a body. If the process has ended, `receive` reports it."""
        self._slots[slot].write(body)
        with suppress(OSError):
            self._connection.sendall(REQUEST.pack(slot, len(body)))

    def receive(self, slot: int) -> "Answer | _End":
        """Return the next answer, or the end of the process, which cannot be used any more."""
        try:
            success, *numbers, length, exif_length = ANSWER.unpack(self._receive_header())
            content = self._slots[slot].read(length + max(exif_length, 0))
        except (struct.error, ValueError, OverflowError):  # it ended, or the answer is invalid
            self.stop()
            return _End(self._process.returncode)
        if not success:
            return Answer(_read_failure(content[:_MAX_ERROR_BYTES].decode(errors="replace")))
        width, height, original_width, original_height = (None if number < 0 else number for number in numbers)
        exif = None if exif_length < 0 else content[length:].decode(errors="replace")
        return Answer(Reencoded(content[:length], width, height, original_width, original_height), exif)

    def stop(self) -> None:
        """End the process. A process that is already ending keeps its own exit status."""
        self.release()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_S)
        self._process.kill()
        self._process.wait()

    def release(self) -> None:
        """Close what is shared with the process, which ends when its connection is closed."""
        self._connection.close()
        for slot in self._slots:
            slot.close()

    def _receive_header(self) -> bytes:
        try:
            return self._connection.recv(ANSWER.size, socket.MSG_WAITALL)
        except OSError:
            return b""


def running_process() -> int | None:
    """Return the process id of this process's decoder, None before it is started."""
    return None if _running is None else _running.pid


def sandbox_in_force() -> str:
    """Return the sandbox layers of this process's decoder, "" before it is started."""
    return "" if _running is None else _running.sandbox


_log = logging.getLogger(__name__)
_lock = threading.Lock()
_running: _DecoderProcess | None = None


def _ensure_process(images: ImageSettings) -> _DecoderProcess:
    """Return this process's decoder with these settings. Replaces one that ended while it was idle."""
    global _running
    if _running is not None and _running.owner != os.getpid():
        _running.release()  # this process is a fork of the owner
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


def _open_shared_file() -> int:
    """Open a file in memory without a name if the system supports it, else an unlinked temporary file.

    A file in memory is sealed against shrinking, because reading beyond its end would kill this process.
    """
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("laion-assets-body", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
        return file
    with tempfile.TemporaryFile() as temporary:
        return os.dup(temporary.fileno())


def _environment() -> dict[str, str]:
    """Return the child's variables: import path, what Python needs, and one linear algebra thread to save memory."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**kept, **threads, "PYTHONPATH": import_path(), "OPENCV_LOG_LEVEL": "ERROR"}
