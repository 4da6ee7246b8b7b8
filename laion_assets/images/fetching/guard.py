"""Where a request may go: checked addresses only, for the first URL and for every redirect again.

A host is resolved once; what was checked is what is connected to, so an answer that changes between check and use
(DNS rebinding) has no effect. Since the check is on addresses, `http://2130706433/`, `http://0x7f.1/` and a name that
points home are one case. Proxy variables of the environment are never read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from laion_assets.errors import SettingError
from laion_assets.images.fetching.addresses import Address, parse_address, refusal
from laion_assets.images.fetching.resolver import Resolver, shared_resolver
from laion_assets.images.fetching.target import Target
from laion_assets.images.reasons import Reason, Rejection


@dataclass(frozen=True)
class Endpoint:
    """One address and port that may be connected to."""

    address: Address
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if self.address.version == 6 else f"{self.address}:{self.port}"


class Guard:
    """The policy of addresses and ports, with the DNS cache. Thread-safe.

    `resolve` maps host patterns (`*.test`, any case, the first match in order wins) to the `address:port` that is
    asked instead of DNS; these sites alone may lie on private networks and on ports outside of `allowed_ports`.
    """

    def __init__(
        self, resolve: Mapping[str, str], allowed_ports: tuple[int, ...], resolver: Resolver | None = None
    ) -> None:
        self._sites = [(pattern.lower(), parse_endpoint(where, pattern)) for pattern, where in resolve.items()]
        self._allowed_ports = frozenset(allowed_ports)
        self._resolver = resolver or shared_resolver()

    def endpoints(self, target: Target, timeout_s: float) -> list[Endpoint]:
        """Every endpoint the target may be fetched from, in the resolver's order.

        Raises Rejection: `dns_failure`, `blocked_address` when no address is allowed, `blocked_port`.
        """
        for pattern, endpoint in self._sites:
            if fnmatchcase(target.host.removesuffix("."), pattern):
                return [endpoint]
        addresses = self._resolver.addresses(target.host, timeout_s)
        refusals = {address: refusal(address) for address in addresses}
        allowed = [address for address in addresses if refusals[address] is None]
        if not refusals:
            raise Rejection(Reason.DNS_FAILURE, "the host has no address")
        if not allowed:
            raise Rejection(Reason.BLOCKED_ADDRESS, min(why for why in refusals.values() if why is not None))
        if target.port not in self._allowed_ports:
            ports = ", ".join(map(str, sorted(self._allowed_ports)))
            raise Rejection(Reason.BLOCKED_PORT, f"port {target.port} is not among the allowed ports {ports}")
        return [Endpoint(address, target.port) for address in allowed]


def parse_endpoint(where: str, pattern: str) -> Endpoint:
    """The endpoint in `127.0.0.1:8080` or `[::1]:8080`. Raises SettingError naming the pattern."""
    address, _, port = where.rpartition(":")
    try:
        if not 0 < int(port) < 65536:
            raise ValueError(port)
        return Endpoint(parse_address(address.strip("[]")), int(port))
    except ValueError as error:
        raise SettingError(
            f"resolve maps {pattern!r} to {where!r}: it has to be an address and a port, as 127.0.0.1:8080 or [::1]:80."
        ) from error
