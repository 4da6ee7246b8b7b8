"""The `resolve` setting: which hosts are asked at a given address and port instead of through DNS."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import translate

from laion_assets.errors import SettingError
from laion_assets.http.urls.addresses import Address, parse_address


@dataclass(frozen=True)
class Endpoint:
    """One address and port that may be connected to. `own`: named by the operator, so it may be private."""

    address: Address
    port: int
    own: bool = False

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


class HostOverrides:
    """`resolve`, in any case: an exact host wins over every pattern, a longer pattern (`*.a.test`) over a shorter one.

    Of patterns of one length the first in order wins. Exact hosts are a table: a dataset may name a thousand.
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
        """Where a host (lower case) is asked instead of through DNS, None if `resolve` does not name it."""
        host = host.removesuffix(".")
        exact = self._exact.get(host)
        if exact is not None:
            return exact
        return next((endpoint for pattern, endpoint in self._patterns if pattern.match(host)), None)


def parse_endpoint(where: str, pattern: str) -> Endpoint:
    """The endpoint in `127.0.0.1:8080` or `[::1]:8080`. Raises SettingError naming the pattern."""
    address, _, port = where.rpartition(":")
    try:
        if not (port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536):
            raise ValueError(port)
        return Endpoint(parse_address(address.strip("[]")), int(port), own=True)
    except ValueError as error:
        raise SettingError(
            f"resolve maps {pattern!r} to {where!r}: use an IP address and a port, as 127.0.0.1:8080 or [::1]:80."
        ) from error
