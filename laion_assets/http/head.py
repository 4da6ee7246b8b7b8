"""The head of an HTTP/1.1 answer: its status and headers."""


class Head:
    """Status and headers of an answer; names in lower case, in their order, values as latin-1 text."""

    __slots__ = ("_values", "headers", "status", "version")

    def __init__(self, status: int, headers: tuple[tuple[str, str], ...], version: bytes = b"HTTP/1.1") -> None:
        self.status = status
        self.headers = headers
        self.version = version
        self._values: dict[str, list[str]] = {}
        for name, value in headers:
            self._values.setdefault(name, []).append(value)

    def all(self, name: str) -> list[str]:
        """The values of every header of this name, which is in lower case."""
        return self._values.get(name, [])

    def get(self, name: str) -> str | None:
        """The value of the first header of this name."""
        values = self._values.get(name)
        return values[0] if values else None

    def tokens(self, name: str) -> list[str]:
        """The parts of a comma list in the headers of this name, in lower case, empty ones left out."""
        return [token for value in self.all(name) for part in value.split(",") if (token := part.strip().lower())]

    @property
    def persists(self) -> bool:
        """Whether the server lets the connection live on (RFC 9112, 9.3).

        Not where both Transfer-Encoding and Content-Length are given: what comes behind may be smuggled (6.1).
        """
        options = self.tokens("connection")
        if "close" in options or (self.version == b"HTTP/1.0" and "keep-alive" not in options):
            return False
        return not (self.all("transfer-encoding") and self.all("content-length"))
