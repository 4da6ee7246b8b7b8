"""The process that decodes parquet files: what a stranger's file does to the C++ reader costs that file alone.

    python -P -m laion_assets.tables.parquet_child SOCKET

It can use nothing but the socket to its parent, which reads the file for it. Its address space is bounded.

A message is its kind, the length of its content, and the content. The parent sends OPEN (JSON); the child sends READ
as often as it needs bytes of the file, each answered with CONTENT, and OPENED (JSON). After NEXT it sends all batches,
each as BATCH (an Arrow IPC stream), and END. REFUSED (a text) may come in the place of OPENED, BATCH and END.
"""

import hashlib
import json
import mmap
import resource
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa

from laion_assets.errors import SourceError
from laion_assets.processes import sandbox as decoder_sandbox
from laion_assets.tables.parquet_columns import is_text
from laion_assets.tables.parquet_file import ParquetInput
from laion_assets.tables.parquet_pages import FIX
from laion_assets.tables.table_limits import TableLimits

OPEN, READ, CONTENT, OPENED, NEXT, BATCH, END, REFUSED = range(8)
HEADER = struct.Struct("<BQ")
RANGE = struct.Struct("<QQ")
"""Position and number of bytes that a READ asks for."""
READ_BYTES = 8 << 20
"""Bytes of one READ, at most."""
SPARE_BYTES = 4 << 30
"""Address space beside the process's own and twice the file's size: a row group is held compressed, and decoded in
batches whose pages have at most `max_page_bytes`."""


def main() -> None:
    """Serve until the parent closes the socket or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    connection = socket.socket(fileno=int(sys.argv[1]))
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import pyarrow.parquet  # noqa: F401 - before the address space is bounded

    if sys.platform == "linux" and decoder_sandbox.forbid_privileges():
        decoder_sandbox.restrict_files()
    used = _used_bytes()
    parquet = None
    with suppress(ConnectionError):
        while True:
            kind, content = receive(connection)
            try:
                if kind == OPEN:
                    asked = json.loads(bytes(content))
                    _bound_memory(used + SPARE_BYTES + 2 * asked["size"])
                    parquet = _opened(connection, asked)
                elif parquet is not None:
                    for batch in parquet.batches():
                        send(connection, BATCH, _ipc_stream(batch))
                    send(connection, END)
            except ConnectionError:
                raise
            except SourceError as error:
                send(connection, REFUSED, str(error).encode(errors="replace"))
            except Exception as error:
                why = str(error) or type(error).__name__
                text = f"{asked['source_file']} is not a readable parquet file ({why}): {FIX}."
                send(connection, REFUSED, text.encode(errors="replace"))


def _opened(connection: socket.socket, asked: dict[str, Any]) -> ParquetInput:
    remote = cast(IO[bytes], _RemoteFile(connection, asked["size"]))
    parquet = ParquetInput(remote, asked["source_file"], TableLimits(**asked["limits"]))
    opened = {
        "rows": parquet.rows,
        "columns": parquet.columns,
        "footer_sha256": hashlib.sha256(parquet.footer).hexdigest(),
    }
    send(connection, OPENED, json.dumps(opened).encode())
    return parquet


def _ipc_stream(batch: pa.RecordBatch) -> pa.Buffer:
    """The batch with its texts as bytes, so that their validity says nothing about UTF-8, which rows are judged by."""
    arrays = [_as_bytes(array) if is_text(array.type) else array for array in batch.columns]
    plain = pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, plain.schema) as writer:
        writer.write_batch(plain)
    return sink.getvalue()


def _as_bytes(array: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        return pa.DictionaryArray.from_arrays(array.indices, _as_bytes(array.dictionary), safe=False)
    if pa.types.is_string(array.type):
        return array.view(pa.binary())
    return array.view(pa.large_binary()) if pa.types.is_large_string(array.type) else array


class _RemoteFile:
    """The file, whose bytes the parent reads."""

    def __init__(self, connection: socket.socket, size: int) -> None:
        self._connection, self._size, self._position = connection, size, 0

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a position."""
        self._position = max(offset + (0, self._position, self._size)[whence], 0)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        left = max(self._size - self._position, 0)
        end = self._position + (left if size < 0 else min(size, left))
        found = []
        while self._position < end:
            send(self._connection, READ, RANGE.pack(self._position, min(end - self._position, READ_BYTES)))
            piece = receive(self._connection)[1]
            if not piece:
                break
            found.append(piece)
            self._position += len(piece)
        return b"".join(found)


def send(connection: socket.socket, kind: int, content: Any = b"") -> None:
    """Send one message."""
    view = memoryview(content)
    connection.sendall(HEADER.pack(kind, view.nbytes))
    if view.nbytes:
        connection.sendall(view)


def receive(connection: socket.socket, most: int = 1 << 40) -> tuple[int, bytearray]:
    """Receive one message of at most `most` bytes. Raises ConnectionError for a larger one and where no more comes."""
    kind, size = HEADER.unpack(_exactly(connection, HEADER.size))
    if size > most:
        raise ConnectionError(f"a message of {size:,} bytes")
    return kind, _exactly(connection, size)


def _exactly(connection: socket.socket, size: int) -> bytearray:
    found = bytearray(size)
    view = memoryview(found)
    while view:
        count = connection.recv_into(view)
        if not count:
            raise ConnectionError("the other side ended")
        view = view[count:]
    return found


def _used_bytes() -> int:
    """Address space of this process."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * mmap.PAGESIZE
    except (OSError, ValueError):
        return 0


def _bound_memory(size: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (size if most == resource.RLIM_INFINITY else min(size, most), most))


if __name__ == "__main__":
    main()
