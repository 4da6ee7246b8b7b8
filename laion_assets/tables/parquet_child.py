"""The child process that decodes untrusted parquet files: a crash of the C++ reader costs only one file.

    python -P -m laion_assets.tables.parquet_child SOCKET

The child is sandboxed: it only has the socket to its parent, which reads the file for it. Its address space is limited.

A message consists of its kind, the length of its content, and the content. The parent sends OPEN (JSON). The child
sends READ for each piece of the file that it needs, which the parent answers with CONTENT, then OPENED (JSON). After
NEXT, the child sends all batches, each as BATCH (an Arrow IPC stream), then END. REFUSED (a text) may replace OPENED,
BATCH and END.
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
from laion_assets.tables.column_rules import ColumnRules, KeptColumn
from laion_assets.tables.parquet_columns import is_text
from laion_assets.tables.parquet_file import ParquetInput
from laion_assets.tables.parquet_pages import FIX
from laion_assets.tables.table_limits import TableLimits

OPEN, READ, CONTENT, OPENED, NEXT, BATCH, END, REFUSED = range(8)
HEADER = struct.Struct("<BQ")
RANGE = struct.Struct("<QQ")
"""Position and number of bytes of a READ request."""
MAX_COLUMNS, MAX_NAME_CHARS = 1_000, 200
"""Limits of the names and types of columns that OPENED lists."""
READ_BYTES = 8 << 20
"""Maximum number of bytes of one READ."""
SPARE_BYTES = 4 << 30
"""Address space in addition to that of the new process and twice the file's size. A row group is held compressed, and
decoded in batches of pages with at most `max_page_bytes`."""


def main() -> None:
    """Serve until the parent closes the socket or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of the group; the parent handles it
    connection = socket.socket(fileno=int(sys.argv[1]))
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import pyarrow.parquet  # noqa: F401 - before the address space is limited

    if sys.platform == "linux" and decoder_sandbox.forbid_privileges():
        decoder_sandbox.restrict_files()
    used = _address_space_bytes()
    parquet = None
    with suppress(ConnectionError):
        while True:
            kind, content = receive(connection)
            try:
                if kind == OPEN:
                    request = json.loads(bytes(content))
                    _limit_memory(used + SPARE_BYTES + 2 * request["size"])
                    parquet = _open(connection, request)
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
                text = f"{request['source_file']} is not a readable parquet file: {why}. {FIX}."
                send(connection, REFUSED, text.encode(errors="replace"))


def _open(connection: socket.socket, request: dict[str, Any]) -> ParquetInput:
    remote = cast(IO[bytes], _RemoteFile(connection, request["size"]))
    rules = request["rules"]
    if rules is not None:
        kept = tuple(KeptColumn(**column) for column in rules["kept"])
        rules = ColumnRules(rules["chosen"], tuple(rules["needed"]), kept)
    parquet = ParquetInput(remote, request["source_file"], TableLimits(**request["limits"]), rules)
    opened = {
        "rows": parquet.rows,
        "columns": parquet.columns,
        "types": [(name[:MAX_NAME_CHARS], kind[:MAX_NAME_CHARS]) for name, kind in parquet.types[:MAX_COLUMNS]],
        "footer_sha256": hashlib.sha256(parquet.footer).hexdigest(),
    }
    send(connection, OPENED, json.dumps(opened).encode())
    return parquet


def _ipc_stream(batch: pa.RecordBatch) -> pa.Buffer:
    """Serialise a batch with its texts as bytes, so that invalid UTF-8 rejects single rows and not the batch."""
    arrays = [_to_bytes(array) if is_text(array.type) else array for array in batch.columns]
    plain = pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, plain.schema) as writer:
        writer.write_batch(plain)
    return sink.getvalue()


def _to_bytes(array: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        return pa.DictionaryArray.from_arrays(array.indices, _to_bytes(array.dictionary), safe=False)
    if pa.types.is_string(array.type):
        return array.view(pa.binary())
    return array.view(pa.large_binary()) if pa.types.is_large_string(array.type) else array


class _RemoteFile:
    """A file object whose bytes the parent reads."""

    def __init__(self, connection: socket.socket, size: int) -> None:
        self._connection, self._size, self._position = connection, size, 0

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a position."""
        self._position = max(offset + (0, self._position, self._size)[whence], 0)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Read the next bytes."""
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
    """Receive one message of at most `most` bytes. Raises ConnectionError if it is larger or the connection ends."""
    kind, size = HEADER.unpack(_receive_exactly(connection, HEADER.size))
    if size > most:
        raise ConnectionError(f"a message of {size:,} bytes")
    return kind, _receive_exactly(connection, size)


def _receive_exactly(connection: socket.socket, size: int) -> bytearray:
    found = bytearray(size)
    view = memoryview(found)
    while view:
        count = connection.recv_into(view)
        if not count:
            raise ConnectionError("the other process closed the connection")
        view = view[count:]
    return found


def _address_space_bytes() -> int:
    """Return the size of the address space of this process in bytes."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * mmap.PAGESIZE
    except (OSError, ValueError):
        return 0


def _limit_memory(size: int) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (size if most == resource.RLIM_INFINITY else min(size, most), most))


if __name__ == "__main__":
    main()
