"""Parquet files read by a process of their own, which a damaged or malicious file may end without harm to this one.

The C++ reader trusts what it reads in many places: bytes changed in pages of any encoding make it overrun its memory.
Each process of this program keeps the processes that it started for its next files.
"""

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import IO

import pyarrow as pa

from laion_assets.errors import SourceError
from laion_assets.processes.parent_death import import_path
from laion_assets.tables.parquet_child import (
    BATCH,
    CONTENT,
    END,
    NEXT,
    OPEN,
    OPENED,
    RANGE,
    READ,
    READ_BYTES,
    REFUSED,
    receive,
    send,
)
from laion_assets.tables.parquet_pages import FIX
from laion_assets.tables.table_limits import TableLimits

SILENCE_S = 600.0
"""A process that sends nothing for so long is ended. A batch takes milliseconds, the pages of a row group seconds."""
_STOP_S = 1.0
_MAX_MESSAGE_BYTES = 4 << 30
_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE")
"""Of the environment, what a Python may need to start. Nothing else of it reaches the process."""


@contextmanager
def open_parquet(file: IO[bytes], source_file: str, limits: TableLimits) -> Iterator["ParquetReader"]:
    """A parquet file, open for reading. Raises SourceError naming it, and the column where it is one."""
    process = _idle_process() or _ParquetProcess()
    reader = ParquetReader(process, file, source_file)
    try:
        reader.open(limits)
        yield reader
    finally:
        if reader.is_between_files:
            _keep(process)
        else:
            process.stop()


class ParquetReader:
    """One open parquet file: `columns` is wanted column -> the file's column, `rows` what the footer says, `size` in
    bytes, `footer_sha256` in hex. Texts are bytes, perhaps in dictionaries.
    """

    def __init__(self, process: "_ParquetProcess", file: IO[bytes], source_file: str) -> None:
        self._process, self._file, self._source_file = process, file, source_file
        self.is_between_files = False
        self.columns: dict[str, str] = {}
        self.rows, self.size, self.footer_sha256 = 0, 0, ""

    def open(self, limits: TableLimits) -> None:
        """Read the footer."""
        self.size = self._file.seek(0, os.SEEK_END)
        asked = {"source_file": self._source_file, "size": self.size, "limits": asdict(limits)}
        self._send(OPEN, json.dumps(asked).encode())
        opened = json.loads(bytes(self._answer(OPENED)[1]))
        self.is_between_files = True
        self.rows, self.columns, self.footer_sha256 = opened["rows"], opened["columns"], opened["footer_sha256"]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows of the wanted columns. Raises SourceError naming the file."""
        self.is_between_files = False
        self._send(NEXT)
        while (message := self._answer(BATCH, END))[0] == BATCH:
            try:
                batch = pa.ipc.open_stream(message[1]).read_next_batch()
                batch.validate(full=True)
            except (pa.ArrowException, StopIteration, OSError, ValueError) as error:
                raise self._refusal(f"its content is inconsistent: {error}") from error
            yield batch
        self.is_between_files = True

    def _answer(self, *expected: int) -> tuple[int, bytearray]:
        """The next message, after all that the process wants to read of the file."""
        while True:
            try:
                kind, content = receive(self._process.connection, _MAX_MESSAGE_BYTES)
            except (OSError, MemoryError) as error:
                raise self._refusal(self._process.end()) from error
            if kind == READ and len(content) == RANGE.size:
                self._send(CONTENT, self._read(*RANGE.unpack(content)))
            elif kind == REFUSED:
                self.is_between_files = True
                raise SourceError(content.decode(errors="replace"))
            elif kind in expected:
                return kind, content
            else:
                raise self._refusal("it took over the process that decodes it")

    def _send(self, kind: int, content: bytes = b"") -> None:
        with suppress(OSError):  # Whether the process is alive shows when its answer is received.
            send(self._process.connection, kind, content)

    def _read(self, position: int, size: int) -> bytes:
        """Read the file itself. Raises SourceError naming it: a network or a disk failed, the content may be fine."""
        try:
            self._file.seek(position)
            return self._file.read(min(size, READ_BYTES))
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise SourceError(f"{self._source_file} cannot be read at byte {position:,}: {reason}.") from error

    def _refusal(self, why: str) -> SourceError:
        return SourceError(f"{self._source_file} is not a readable parquet file ({why}): {FIX}.")


class _ParquetProcess:
    def __init__(self) -> None:
        self.owner = os.getpid()
        self.connection, theirs = socket.socketpair()
        with theirs:
            environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "laion_assets.tables.parquet_child", str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                env={**environment, "PYTHONPATH": import_path(), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self.connection.settimeout(SILENCE_S)

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> str:
        """End the process, and say how it ended."""
        self.stop()
        code = self._process.returncode
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        return f"the process that decodes it ended by {how}"

    def stop(self) -> None:
        """End the process; one that is ending by itself ends its own way."""
        self.connection.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_S)
        self._process.kill()
        self._process.wait()


_idle: list[_ParquetProcess] = []
_lock = threading.Lock()


def _idle_process() -> _ParquetProcess | None:
    """A process that waits for its next file. Those of a process that this one was forked from are left to it."""
    with _lock:
        while _idle:
            process = _idle.pop()
            if process.owner != os.getpid():
                process.connection.close()
            elif process.is_alive:
                return process
            else:
                process.stop()
    return None


def _keep(process: _ParquetProcess) -> None:
    with _lock:
        _idle.append(process)


@atexit.register
def stop_idle_processes() -> None:
    """End the processes that wait for a file."""
    while process := _idle_process():
        process.stop()
