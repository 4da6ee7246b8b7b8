"""The `resolve` setting: hosts with a fixed address and port instead of DNS."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import translate

from laion_assets.errors import SettingError
from laion_assets.http.urls.addresses import Address, parse_address


@dataclass(frozen=True)
class Endpoint:
    """An address and port that may be connected to. `own`: named by the operator, so it may be private."""

    address: Address
    port: int
    own: bool = False

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


class HostOverrides:
    """The entries of `resolve`, case-insensitive.

    An exact host has priority over patterns, a longer pattern (`*.a.test`) over a shorter one, and of patterns with the
    same length the first. Exact hosts are a dict, because a dataset may name a thousand hosts.

    Raises SettingError for an entry that is not `address:port`.
    """

    def __init__(self, resolve: Mapping[str, str]) -> None:
        self._exact: dict[str, Endpoint] = {}
        patterns: list[tuple[str, Endpoint]] = []
        for pattern, where in resolve.items():
            endpoint = parse_endpoint(where, pattern)
            name = pattern.lower().removesuffix(".")
            if set(name).isdisjoint("*?["):
                self._exact.setdefault(name, endpoint)
            else:
                patterns.append((name, endpoint))
        patterns.sort(key=lambda each: -len(each[0]))
        self._patterns = [(re.compile(translate(pattern)), endpoint) for pattern, endpoint in patterns]

    def endpoint(self, host: str) -> Endpoint | None:
        """Return the endpoint of a lower-case host, None if `resolve` does not name it."""
        host = host.removesuffix(".")
        exact = self._exact.get(host)
        if exact is not None:
            return exact
        return next((endpoint for pattern, endpoint in self._patterns if pattern.match(host)), None)


def parse_endpoint(where: str, pattern: str) -> Endpoint:
    """Parse `127.0.0.1:8080` or `[::1]:8080`. Raises SettingError naming the pattern."""
    address, _, port = where.rpartition(":")
    try:
        if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
            raise ValueError(port)
        return Endpoint(parse_address(address.strip("[]")), int(port), own=True)
    except ValueError as error:
        raise SettingError(
            f"resolve maps {pattern!r} to {where!r}: use an IP address and a port, as 127.0.0.1:8080 or [::1]:80."
        ) from error
