"""Which addresses may be asked: only those that are globally reachable, however they are written.

Python's `ipaddress.is_global` alone is not enough: it takes 64:ff9b::7f00:1 (NAT64 of 127.0.0.1), 2002:7f00:1:: (6to4)
and 224.0.0.1 for global, and changes between releases. The ranges here are IANA's special-purpose registries
(RFC 6890, as of 2024) and are the same under every Python.
"""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address

_REFUSED_V4 = [
    (IPv4Network(network), why)
    for network, why in (
        ("0.0.0.0/8", "this network, RFC 791"),
        ("10.0.0.0/8", "private, RFC 1918"),
        ("100.64.0.0/10", "shared address space, RFC 6598"),
        ("127.0.0.0/8", "loopback"),
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
_MAPPED = IPv6Network("::ffff:0:0/96")
_NAT64 = IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = IPv6Network("64:ff9b:1::/48")
_SIX_TO_FOUR = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")


def refusal(address: Address) -> str | None:
    """Why an address may not be asked, None if it may."""
    if isinstance(address, IPv4Address):
        for network, why in _REFUSED_V4:
            if address in network:
                return f"{address} is not globally reachable ({why})"
        return None
    for embedded in embedded_addresses(address):
        why_not = refusal(embedded)
        if why_not is not None:
            return f"{address} holds {embedded}: {why_not}"
    if address in _MAPPED or address in _NAT64 or address in _SIX_TO_FOUR:
        return None
    if address not in _GLOBAL_V6:
        return f"{address} is not globally reachable (outside of 2000::/3)"
    for network6, why in _REFUSED_V6:
        if address in network6:
            return f"{address} is not globally reachable ({why})"
    return None


def embedded_addresses(address: IPv6Address) -> list[IPv4Address]:
    """The IPv4 addresses that an IPv6 address stands for or is relayed to.

    Mapped (RFC 4291), NAT64 (RFC 6052; for the local-use prefix of RFC 8215 the forms /48 and /96), 6to4 (RFC 3056),
    Teredo (RFC 4380: server and obfuscated client).
    """
    value = int(address)
    low = IPv4Address(value & 0xFFFFFFFF)
    if address in _MAPPED or address in _NAT64:
        return [low]
    if address in _NAT64_LOCAL:
        return [low, IPv4Address((value >> 64 & 0xFFFF) << 16 | value >> 40 & 0xFFFF)]
    if address in _SIX_TO_FOUR:
        return [IPv4Address(value >> 80 & 0xFFFFFFFF)]
    if address in _TEREDO:
        return [IPv4Address(value >> 64 & 0xFFFFFFFF), IPv4Address(int(low) ^ 0xFFFFFFFF)]
    return []


def parse_address(text: str) -> Address:
    """The address in a socket name; a zone (`fe80::1%eth0`) is dropped. Raises ValueError."""
    return ip_address(text.partition("%")[0])
