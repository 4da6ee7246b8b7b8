"""Parquet files decoded in a child process, which a damaged or malicious file may crash without harm to this process.

In many places the C++ reader trusts its input: changed bytes in pages of any encoding make it overrun its memory. A
process keeps its idle child processes for the next files.
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
from laion_assets.tables.column_rules import ColumnRules
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

READ_TIMEOUT_S = 600.0
"""Read timeout of the socket to the child. A batch takes milliseconds, the pages of a row group seconds."""
_STOP_S = 1.0
_MAX_MESSAGE_BYTES = 4 << 30
_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE")
"""Environment variables that Python may need to start. The child gets no others."""


@contextmanager
def open_parquet(
    file: IO[bytes], source_file: str, limits: TableLimits, rules: ColumnRules | None
) -> Iterator["ParquetReader"]:
    """Open a parquet file for reading. Raises SourceError naming the file, and the column if one is at fault.

    If `rules` is None, columns are not looked for.
    """
    process = _take_idle_process() or _ParquetProcess()
    reader = ParquetReader(process, file, source_file)
    try:
        reader.open(limits, rules)
        yield reader
    finally:
        if reader.is_between_files:
            _keep_process(process)
        else:
            process.stop()


class ParquetReader:
    """An open parquet file, decoded in a child process.

    `columns` has the file's column for each wanted or kept column, `types` the name and type of each column of the file
    (the first thousand), `rows` is the number of rows in the footer, `size` is in bytes, `footer_sha256` in hex. Texts
    are bytes, perhaps in dictionaries.
    """

    def __init__(self, process: "_ParquetProcess", file: IO[bytes], source_file: str) -> None:
        self._process, self._file, self._source_file = process, file, source_file
        self.is_between_files = False
        self.columns: dict[str, str] = {}
        self.types: list[tuple[str, str]] = []
        self.rows, self.size, self.footer_sha256 = 0, 0, ""

    def open(self, limits: TableLimits, rules: ColumnRules | None) -> None:
        """Read the footer. Raises SourceError."""
        self.size = self._file.seek(0, os.SEEK_END)
        names = None if rules is None else asdict(rules)
        request = {"source_file": self._source_file, "size": self.size, "limits": asdict(limits), "rules": names}
        self._send(OPEN, json.dumps(request).encode())
        opened = json.loads(bytes(self._receive_answer(OPENED)[1]))
        self.is_between_files = True
        self.rows, self.columns, self.footer_sha256 = opened["rows"], opened["columns"], opened["footer_sha256"]
        self.types = [(name, kind) for name, kind in opened["types"]]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield all rows of the wanted columns. Raises SourceError naming the file."""
        self.is_between_files = False
        self._send(NEXT)
        while (message := self._receive_answer(BATCH, END))[0] == BATCH:
            try:
                batch = pa.ipc.open_stream(message[1]).read_next_batch()
                batch.validate(full=True)
            except (pa.ArrowException, StopIteration, OSError, ValueError) as error:
                raise self._refuse(f"its content is inconsistent: {error}") from error
            yield batch
        self.is_between_files = True

    def _receive_answer(self, *expected: int) -> tuple[int, bytearray]:
        """Return the next message of an expected kind. Serves the read requests before it."""
        while True:
            try:
                kind, content = receive(self._process.connection, _MAX_MESSAGE_BYTES)
            except (OSError, MemoryError) as error:
                raise self._refuse(self._process.end()) from error
            if kind == READ and len(content) == RANGE.size:
                self._send(CONTENT, self._read(*RANGE.unpack(content)))
            elif kind == REFUSED:
                self.is_between_files = True
                raise SourceError(content.decode(errors="replace"))
            elif kind in expected:
                return kind, content
            else:
                raise self._refuse("the child process sent an unexpected message")

    def _send(self, kind: int, content: bytes = b"") -> None:
        with suppress(OSError):  # a dead child shows when its answer is received
            send(self._process.connection, kind, content)

    def _read(self, position: int, size: int) -> bytes:
        """Read a piece of the file. Raises SourceError naming the file if the network or the disk fails."""
        try:
            self._file.seek(position)
            return self._file.read(min(size, READ_BYTES))
        except Exception as error:
            reason = str(error) or type(error).__name__
            raise SourceError(f"Cannot read {self._source_file} at byte {position:,}: {reason}.") from error

    def _refuse(self, why: str) -> SourceError:
        return SourceError(f"{self._source_file} is not a readable parquet file: {why}. {FIX}.")


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
        self.connection.settimeout(READ_TIMEOUT_S)

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def end(self) -> str:
        """End the process, and return a description of how it ended."""
        self.stop()
        code = self._process.returncode
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        return f"the process that decodes it ended with {how}"

    def stop(self) -> None:
        """End the process. A process that already ends gets time to do so."""
        self.connection.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_S)
        self._process.kill()
        self._process.wait()


_idle: list[_ParquetProcess] = []
_lock = threading.Lock()


def _take_idle_process() -> _ParquetProcess | None:
    """Return an idle child process, None if there is none. Children of the process before a fork are not used."""
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


def _keep_process(process: _ParquetProcess) -> None:
    with _lock:
        _idle.append(process)


@atexit.register
def stop_idle_processes() -> None:
    """End the idle child processes."""
    while process := _take_idle_process():
        process.stop()
