"""Where a request may go: checked addresses only, for the first URL and for every redirect again.

A host is resolved once; what was checked is what is connected to, so an answer that changes between check and use
(DNS rebinding) has no effect. Since the check is on addresses, `http://2130706433/`, `http://0x7f.1/` and a name that
points home are one case. Proxy variables of the environment are never read.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import translate

from laion_assets.errors import SettingError
from laion_assets.http.addresses import Address, parse_address, refusal
from laion_assets.http.resolver import Resolver, shared_resolver
from laion_assets.http.target import Target
from laion_assets.reasons import Reason, Rejection


@dataclass(frozen=True)
class Endpoint:
    """One address and port that may be connected to. `own`: a site of `resolve`, which the operator answers for."""

    address: Address
    port: int
    own: bool = False

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
        self._sites = _Sites(resolve)
        self._allowed_ports = frozenset(allowed_ports)
        self._resolver = resolver or shared_resolver()

    def endpoints(self, target: Target, timeout_s: float) -> list[Endpoint]:
        """Every endpoint the target may be fetched from, in the resolver's order.

        Raises Rejection: `dns_failure`, `blocked_address` when no address is allowed, `blocked_port`.
        """
        site = self._sites.endpoint(target.host.removesuffix("."))
        if site is not None:
            return [site]
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

    def verdicts(self, target: Target, timeout_s: float) -> list[tuple[str, str]]:
        """Each address of the target's host with what the guard says of it, for people. Raises Rejection."""
        site = self._sites.endpoint(target.host.removesuffix("."))
        if site is not None:
            return [(str(site), "allowed: a site of resolve")]
        addresses = self._resolver.addresses(target.host, timeout_s)
        return [(str(address), refusal(address) or "allowed: globally reachable") for address in addresses]


class _Sites:
    """`resolve`: names are looked up, only patterns are tried in turn, for a dataset may name a thousand hosts."""

    def __init__(self, resolve: Mapping[str, str]) -> None:
        self._names: dict[str, tuple[int, Endpoint]] = {}
        self._patterns: list[tuple[int, re.Pattern[str], Endpoint]] = []
        for rank, (pattern, where) in enumerate(resolve.items()):
            endpoint = parse_endpoint(where, pattern)
            if set(pattern).isdisjoint("*?["):
                self._names.setdefault(pattern.lower(), (rank, endpoint))
            else:
                self._patterns.append((rank, re.compile(translate(pattern.lower())), endpoint))

    def endpoint(self, host: str) -> Endpoint | None:
        """The endpoint of the first entry that means this host, None if none does."""
        named = self._names.get(host)
        for rank, pattern, endpoint in self._patterns:
            if named is not None and named[0] < rank:
                break
            if pattern.match(host):
                return endpoint
        return named[1] if named is not None else None


def parse_endpoint(where: str, pattern: str) -> Endpoint:
    """The endpoint in `127.0.0.1:8080` or `[::1]:8080`. Raises SettingError naming the pattern."""
    address, _, port = where.rpartition(":")
    try:
        if not 0 < int(port) < 65536:
            raise ValueError(port)
        return Endpoint(parse_address(address.strip("[]")), int(port), own=True)
    except ValueError as error:
        raise SettingError(
            f"resolve maps {pattern!r} to {where!r}: it has to be an address and a port, as 127.0.0.1:8080 or [::1]:80."
        ) from error
