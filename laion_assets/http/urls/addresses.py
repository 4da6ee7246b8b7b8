"""Check addresses: only globally reachable ones may be fetched from, in any notation.

Python's `ipaddress.is_global` is not enough: it accepts 64:ff9b::7f00:1 (NAT64 of 127.0.0.1), 2002:7f00:1:: (6to4) and
224.0.0.1, and it changes between releases. The ranges here are those of IANA's special-purpose registries (RFC 6890, as
of 2024), the same with every Python version.
"""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from socket import inet_aton

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_REFUSED_V4 = [
    (IPv4Network(network), why)
    for network, why in (
        ("0.0.0.0/8", "this network, RFC 791"),
        ("10.0.0.0/8", "private, RFC 1918"),
        ("100.64.0.0/10", "shared address space, RFC 6598"),
        ("127.0.0.0/8", "loopback"),
        ("168.63.129.16/32", "Azure's platform service, reachable from inside of its virtual machines"),
        ("169.254.0.0/16", "link-local, RFC 3927"),
        ("172.16.0.0/12", "private, RFC 1918"),
        ("192.0.0.0/24", "protocol assignments, RFC 6890"),
        ("192.0.2.0/24", "documentation, RFC 5737"),
        ("192.88.99.0/24", "6to4 relay anycast, RFC 7526"),
        ("192.168.0.0/16", "private, RFC 1918"),
        ("198.18.0.0/15", "benchmarking, RFC 2544"),
        ("198.51.100.0/24", "documentation, RFC 5737"),
        ("203.0.113.0/24", "documentation, RFC 5737"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved or broadcast"),
    )
]
_GLOBAL_V6 = IPv6Network("2000::/3")
_REFUSED_V6 = [
    (IPv6Network(network), why)
    for network, why in (
        ("2001::/23", "protocol assignments, RFC 2928"),
        ("2001:db8::/32", "documentation, RFC 3849"),
        ("3ffe::/16", "6bone, RFC 3701"),
        ("3fff::/20", "documentation, RFC 9637"),
    )
]
METADATA: list[Network] = [
    *map(IPv4Network, ("169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32", "192.0.0.192/32")),
    *map(IPv6Network, ("fe80::/10", "fd00:ec2::/32", "fd20:ce::/32")),
]
"""Link-local networks and metadata services of AWS, Azure, Google, Alibaba and Oracle: they hold credentials."""
_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")
_SIX_TO_FOUR = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")
_ISATAP = (0x00005EFE, 0x02005EFE)
"""The upper half of an ISATAP interface identifier (RFC 5214, 6.1), under any prefix."""
_NAT64_LENGTHS = (32, 40, 48, 56, 64, 96)
_NAT64_KNOWN = (IPv4Address("192.0.0.170"), IPv4Address("192.0.0.171"))
"""The addresses of ipv4only.arpa (RFC 7050)."""


def refusal(address: Address, nat64: Sequence[IPv6Network] = (), allowed: Sequence[Network] = ()) -> str | None:
    """Return why an address is refused, None if it is allowed. `nat64` are the network's own NAT64 prefixes.

    Addresses in `allowed` networks may be private or reserved. An IPv6 address that embeds an IPv4 address needs a
    permission for that one, too.
    """
    if isinstance(address, IPv4Address):
        for network, why in _REFUSED_V4:
            if address in network and not _is_allowed(address, allowed):
                return f"{address} is not globally reachable ({why})"
        return None
    for embedded in embedded_addresses(address, nat64):
        why_not = refusal(embedded, (), allowed)
        if why_not is not None:
            return f"{address} contains {embedded}: {why_not}"
    if _is_allowed(address, allowed):
        return None
    if address in _MAPPED or address in _NAT64 or address in _SIX_TO_FOUR:
        return None
    if address not in _GLOBAL_V6:
        return f"{address} is not globally reachable (outside of 2000::/3)"
    for network6, why in _REFUSED_V6:
        if address in network6:
            return f"{address} is not globally reachable ({why})"
    return None


def _is_allowed(address: Address, allowed: Sequence[Network]) -> bool:
    """Whether an allowed network has the address. A metadata service needs an entry of exactly its address."""
    is_metadata = any(address in network for network in METADATA)
    return any(address in each and (each.num_addresses == 1 or not is_metadata) for each in allowed)


def embedded_addresses(address: IPv6Address, nat64: Sequence[IPv6Network] = ()) -> list[IPv4Address]:
    """Return the IPv4 addresses that an IPv6 address embeds or is relayed to.

    Mapped (RFC 4291), NAT64 (RFC 6052; for the local-use prefix of RFC 8215 the forms /48 and /96; `nat64` are further
    prefixes), 6to4 (RFC 3056), Teredo (RFC 4380: server and obfuscated client), ISATAP (RFC 5214).
    """
    value = int(address)
    low = IPv4Address(value & 0xFFFFFFFF)
    found = [_behind_prefix(value, prefix.prefixlen) for prefix in nat64 if address in prefix]
    if address in _MAPPED or address in _NAT64:
        found.append(low)
    elif address in _NAT64_LOCAL:
        found += [low, _behind_prefix(value, 48)]
    elif address in _SIX_TO_FOUR:
        found.append(IPv4Address(value >> 80 & 0xFFFFFFFF))
    elif address in _TEREDO:
        found += [IPv4Address(value >> 64 & 0xFFFFFFFF), IPv4Address(int(low) ^ 0xFFFFFFFF)]
    if value >> 32 & 0xFFFFFFFF in _ISATAP:
        found.append(low)
    return found


def nat64_prefixes(addresses: Iterable[Address]) -> list[IPv6Network]:
    """Return the network's NAT64 prefixes from its addresses for ipv4only.arpa (RFC 7050, 3)."""
    return [
        IPv6Network((int(address), length), strict=False)
        for address in addresses
        if isinstance(address, IPv6Address)
        for length in _NAT64_LENGTHS
        if _behind_prefix(int(address), length) in _NAT64_KNOWN
    ]


def _behind_prefix(value: int, length: int) -> IPv4Address:
    """Return the IPv4 address after a prefix of `length` bits. Skips bits 64 to 71 (RFC 6052, 2.2)."""
    if length == 96:
        return IPv4Address(value & 0xFFFFFFFF)
    packed = value.to_bytes(16, "big")
    without_u = packed[:8] + packed[9:]
    return IPv4Address(without_u[length // 8 : length // 8 + 4])


def literal_address(host: str) -> Address | None:
    """Return the address that a host is without DNS: IPv6, or IPv4 in any form (`127.1`, `0x7f.1`, `2130706433`)."""
    try:
        return parse_address(host) if ":" in host else IPv4Address(inet_aton(host))
    except (OSError, ValueError):
        return None


def parse_address(text: str) -> Address:
    """Parse an address. Drops a zone (`fe80::1%eth0`). Raises ValueError."""
    return ip_address(text.partition("%")[0])
