"""Content encodings that a server applies unasked: we ask for `identity`, and raw_csv keeps files byte for byte."""

import zlib
from collections.abc import Iterator, Mapping

from laion_assets.errors import SourceError
from laion_assets.metadata.retry import TransientError

_PIECE_BYTES = 1 << 18


def foreign_encoding(headers: Mapping[str, str], path: str) -> str:
    """The encoding that has to be undone, empty if none; header names in lower case.

    A `.gz` file labelled as gzip is what it is (Apache's `AddEncoding x-gzip .gz` labels them so): it stays.
    """
    encoding = headers.get("content-encoding", "").strip().lower().removeprefix("x-")
    if encoding == "identity" or (encoding == "gzip" and path.lower().endswith((".gz", ".tgz"))):
        return ""
    return encoding


class Decoder:
    """Undoes gzip and deflate (RFC 9110, 8.4.1), a bounded part at a time. Raises SourceError for other encodings."""

    def __init__(self, encoding: str, url: str) -> None:
        if encoding not in ("gzip", "deflate"):
            raise SourceError(
                f"{url} comes with Content-Encoding {encoding}, which was not asked for and is not understood: turn it "
                "off at the server."
            )
        self._member = zlib.decompressobj(47)

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """What a piece decodes to. Raises TransientError for damage."""
        try:
            while piece:
                if self._member.eof:
                    self._member = zlib.decompressobj(47)
                yield self._member.decompress(piece, _PIECE_BYTES)
                piece = self._member.unconsumed_tail or self._member.unused_data
        except zlib.error as error:
            raise TransientError(f"the compressed body is damaged: {error}") from error

    def end(self) -> bytes:
        """What is left to decode. Raises TransientError if the body ended too early."""
        rest = self._member.flush()
        if not self._member.eof:
            raise TransientError("the compressed body ends too early")
        return rest
