"""Only globally reachable addresses are requested, in any notation."""

import ipaddress
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from laion_assets.http.urls.addresses import embedded_addresses, refusal

PRIVATE = [
    "0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.8.8.8", "168.63.129.16", "169.254.169.254", "172.16.0.1",
    "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1",
    "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
]  # fmt: skip
PUBLIC = [
    "8.8.8.8", "168.63.129.15", "1.1.1.1", "100.63.255.255", "172.32.0.1", "192.0.1.1", "198.20.0.1", "223.255.255.255",
]  # fmt: skip
REFUSED_V6 = [
    "::", "::1", "fe80::1", "fc00::1", "fd12::1", "ff02::1", "ff0e::1", "2001:db8::1", "2001:2::1", "2001:10::1",
    "3fff::1", "3ffe::1", "5f00::1", "100::1", "fec0::1", "::ffff:0:127.0.0.1", "::127.0.0.1", "4000::1",
    "2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:169.254.169.254", "2606:4700::5efe:168.63.129.16",
    "fe80::5efe:8.8.8.8",
    "64:ff9b:1::7f00:1", "64:ff9b:1::808:808",
]  # fmt: skip


def wrapped(address: IPv4Address) -> list[IPv6Address]:
    """Return every IPv6 form that contains or relays to an IPv4 address."""
    value = int(address)
    return [
        IPv6Address(f"::ffff:{address}"),
        IPv6Address(int(IPv6Address("64:ff9b::")) | value),
        IPv6Address(int(IPv6Address("2002::")) | value << 80 | 1),
        IPv6Address(int(IPv6Address("2001:0:808:808::")) | value ^ 0xFFFFFFFF),
        IPv6Address(int(IPv6Address("2001::")) | value << 64 | 0xF7F7F7F7),
    ]


@pytest.mark.parametrize("address", PRIVATE)
def test_special_ipv4_is_refused_in_every_form(address):
    assert refusal(IPv4Address(address))
    for form in wrapped(IPv4Address(address)):
        assert refusal(form), form
        assert IPv4Address(address) in embedded_addresses(form)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_ipv4_is_allowed_plain_mapped_nat64_and_6to4(address):
    assert refusal(IPv4Address(address)) is None
    for form in wrapped(IPv4Address(address))[:3]:
        assert refusal(form) is None, form


@pytest.mark.parametrize("address", REFUSED_V6)
def test_special_ipv6_is_refused(address):
    assert refusal(IPv6Address(address))


@pytest.mark.parametrize(
    "address", ["2606:4700:4700::1111", "2a00:1450:4001::1", "2606:4700::5efe:8.8.8.8", "2001:4860:4860::8888"]
)
def test_public_ipv6_is_allowed(address):
    assert refusal(IPv6Address(address)) is None


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_no_ipv4_that_python_calls_private_passes(address):
    if address.is_private or address.is_multicast or address.is_reserved or not address.is_global:
        assert refusal(address)


@given(st.one_of(st.integers(0, 2**128 - 1), st.integers(0x2000 << 112, (0x4000 << 112) - 1)).map(IPv6Address))
def test_no_ipv6_that_python_calls_private_passes(address):
    if address.is_private or address.is_multicast or address.is_link_local or not address.is_global:
        assert refusal(address) or address in ipaddress.ip_network("::ffff:0:0/96")


@given(st.integers(0, 2**32 - 1).map(IPv4Address))
def test_embedding_never_makes_an_address_reachable(address):
    if refusal(address):
        assert all(refusal(form) for form in wrapped(address))
