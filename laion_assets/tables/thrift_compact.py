"""Reader of Thrift's compact protocol, as parquet footers and page headers use it, with limited depth and length.

github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 16
"""Maximum nesting of structs and lists. Parquet's page headers and schema elements have 4 levels."""
_STOP, _TRUE, _FALSE = range(3)
_DOUBLE_BYTES = 8
_MAX_VARINT_BYTES = 10


class ThriftError(Exception):
    """The bytes are not a struct of the compact protocol."""


class CompactReader:
    """Reader of structs from `data`, starting at `position`."""

    def __init__(self, data: bytes | memoryview, position: int = 0) -> None:
        self.data, self.position = data, position

    def read_struct(self, depth: int = 0) -> dict[int, Any]:
        """Read the next struct: values by field number; structs as dicts, lists as lists, numbers as int."""
        return dict(self.read_fields(depth))

    def read_fields(self, depth: int = 0) -> Iterator[tuple[int, Any]]:
        """Yield the fields of the next struct one by one, so that a caller may stop early. Raises ThriftError."""
        if depth > MAX_DEPTH:
            raise ThriftError("too deeply nested")
        number = 0
        while (head := self._read_byte()) & 15 != _STOP:
            number = number + (head >> 4) if head >> 4 else self._read_zigzag()
            kind = head & 15
            yield number, (kind == _TRUE) if kind in (_TRUE, _FALSE) else self._read_value(kind, depth)

    def _read_value(self, kind: int, depth: int) -> Any:
        match kind:
            case 1 | 2 | 3:  # a boolean in a list, i8
                return self._read_byte()
            case 4 | 5 | 6:  # i16, i32, i64
                return self._read_zigzag()
            case 7:
                return self._read_bytes(_DOUBLE_BYTES)
            case 8:  # binary and string
                return self._read_bytes(self.read_varint())
            case 9 | 10:  # list and set
                return self._read_list(depth + 1)
            case 11:
                return self._read_map(depth + 1)
            case 12:
                return self.read_struct(depth + 1)
        raise ThriftError(f"unknown type {kind}")

    def _read_list(self, depth: int) -> list[Any]:
        head = self._read_byte()
        size = head >> 4 if head >> 4 < 15 else self.read_varint()
        if size > len(self.data) - self.position or depth > MAX_DEPTH:
            raise ThriftError("a list that is longer than the data")
        return [self._read_value(head & 15, depth) for _ in range(size)]

    def _read_map(self, depth: int) -> dict[Any, Any]:
        size = self.read_varint()
        if size > len(self.data) - self.position or depth > MAX_DEPTH:
            raise ThriftError("a map that is longer than the data")
        kinds = self._read_byte() if size else 0
        pairs = [(self._read_value(kinds >> 4, depth), self._read_value(kinds & 15, depth)) for _ in range(size)]
        return {str(key): value for key, value in pairs}

    def read_varint(self) -> int:
        """Read an unsigned number with 7 bits per byte."""
        value = 0
        for shift in range(0, 7 * _MAX_VARINT_BYTES, 7):
            byte = self._read_byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ThriftError("a number of more than 10 bytes")

    def _read_zigzag(self) -> int:
        value = self.read_varint()
        return (value >> 1) ^ -(value & 1)

    def _read_byte(self) -> int:
        if self.position >= len(self.data):
            raise ThriftError("the data ends inside a struct")
        self.position += 1
        return self.data[self.position - 1]

    def _read_bytes(self, size: int) -> bytes | memoryview:
        end = self.position + size
        if end > len(self.data):
            raise ThriftError("the data ends inside a value")
        found, self.position = self.data[self.position : end], end
        return found
