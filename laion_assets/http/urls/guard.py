"""The address guard against server-side request forgery (SSRF). It checks the first URL and every redirect.

A host is resolved once, and the connection goes to an address that was checked. So a DNS response that changes between
check and use (DNS rebinding) has no effect. Because addresses are checked, `http://2130706433/`, `http://0x7f.1/` and a
host name that resolves to 127.0.0.1 are the same case. Proxy variables of the environment are never read.

The operator names hosts and networks in the settings: these may be private. Data names hosts in URLs of rows and lists,
links of listings and redirects: these must be globally reachable, unless the operator named the same host too.
"""

import time
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network

from laion_assets.dataset.fetch_policy import FetchPolicy
from laion_assets.errors import SettingError
from laion_assets.http.urls.addresses import Address, literal_address, nat64_prefixes, refusal
from laion_assets.http.urls.host_overrides import Endpoint, HostOverrides
from laion_assets.http.urls.resolver import Resolver, shared_resolver
from laion_assets.http.urls.target import Target, parse_target
from laion_assets.reasons import Reason, Rejection

NAT64_NAME = "ipv4only.arpa"
"""A host name with only IPv4 addresses. An IPv6 address for it contains the network's NAT64 prefix (RFC 7050)."""
_NAT64_WAIT_S = 1.0


class Guard:
    """Decides which endpoints a URL may be fetched from. Uses the resolver's DNS cache. Thread-safe.

    `resolve` maps hosts to an `address:port` that replaces DNS (`HostOverrides`). `operator_urls` are the
    URLs of the settings: their host and port, together, may be private. All other hosts must be globally reachable
    or in `allow_networks`, outside of `blocked_networks`, and on one of `allowed_ports`.
    """

    def __init__(
        self,
        resolve: Mapping[str, str],
        allowed_ports: tuple[int, ...],
        resolver: Resolver | None = None,
        blocked_networks: Iterable[str] = (),
        operator_urls: Iterable[str] = (),
        allow_networks: Iterable[str] = (),
    ) -> None:
        self._overrides = HostOverrides(resolve)
        self._allowed_ports = frozenset(allowed_ports)
        self._resolver = resolver or shared_resolver()
        self._blocked = [_parse_network(text, "blocked_networks") for text in blocked_networks]
        self._allowed = [_parse_network(text, "allow_networks") for text in allow_networks]
        self._operators = {(target.host, target.port) for target in map(parse_target, operator_urls)}

    @classmethod
    def of(cls, policy: FetchPolicy, resolver: Resolver | None = None) -> "Guard":
        """Return the guard for the URLs of rows. Raises SettingError."""
        return cls(
            policy.resolve,
            policy.allowed_ports,
            resolver,
            policy.blocked_networks,
            allow_networks=policy.allow_networks,
        )

    def endpoints(self, target: Target, timeout_s: float) -> list[Endpoint]:
        """Return every endpoint that the target may be fetched from, in the resolver's order.

        Raises Rejection: `blocked_port` (before any DNS look-up), `dns_failure`, `blocked_address` if no address is
        allowed.
        """
        site = self._overrides.endpoint(target.host)
        if site is not None:
            return [site]
        own = (target.host, target.port) in self._operators
        if not own and target.port not in self._allowed_ports:
            raise self._blocked_port(target)
        ends = time.monotonic() + timeout_s
        addresses = self._resolver.addresses(target.host, timeout_s)
        if not addresses:
            raise Rejection(Reason.DNS_FAILURE, "the host has no address")
        if own:
            return [Endpoint(address, target.port, own=True) for address in addresses]
        refusals = {address: self._refusal(address, ends) for address in addresses}
        allowed = [address for address in addresses if refusals[address] is None]
        if not allowed:
            raise Rejection(Reason.BLOCKED_ADDRESS, min(why for why in refusals.values() if why is not None))
        return [Endpoint(address, target.port) for address in allowed]

    def verdicts(self, target: Target, timeout_s: float) -> list[tuple[str, str]]:
        """Return each address of the target's host with the guard's decision as text. Raises Rejection."""
        site = self._overrides.endpoint(target.host)
        if site is not None:
            return [(str(site), "allowed: a site of resolve")]
        ends = time.monotonic() + timeout_s
        addresses = self._resolver.addresses(target.host, timeout_s)
        return [(str(address), self._refusal(address, ends) or self._permission(address)) for address in addresses]

    def _blocked_port(self, target: Target) -> Rejection:
        """Return the rejection of a port, or of a literal address that is refused too: it needs no DNS."""
        literal = literal_address(target.host)
        refused = refusal(literal, allowed=self._allowed) if literal is not None else None
        if refused is not None:
            return Rejection(Reason.BLOCKED_ADDRESS, refused)
        ports = ", ".join(map(str, sorted(self._allowed_ports)))
        return Rejection(Reason.BLOCKED_PORT, f"port {target.port} is not among the allowed ports {ports}")

    def _refusal(self, address: Address, ends: float) -> str | None:
        for network in self._blocked:
            if address in network:
                return f"{address} is in {network}, which the setting blocked_networks names"
        found = refusal(address, allowed=self._allowed)
        if found is None and isinstance(address, IPv6Address):
            prefixes = self._nat64(min(max(ends - time.monotonic(), 0.1), _NAT64_WAIT_S))
            return refusal(address, prefixes, self._allowed)
        return found

    @staticmethod
    def _permission(address: Address) -> str:
        return "allowed: a network of allow_networks" if refusal(address) else "allowed: globally reachable"

    def _nat64(self, timeout_s: float) -> list[IPv6Network]:
        """Return this network's NAT64 prefixes. Empty if the lookup fails: most networks have no NAT64."""
        try:
            return nat64_prefixes(self._resolver.addresses(NAT64_NAME, timeout_s))
        except Rejection:
            return []


def _parse_network(text: str, setting: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError as error:
        raise SettingError(
            f"{setting} names {text!r}: use a network such as 203.0.113.0/24 or 2001:db8::/32."
        ) from error
