"""A hostile DNS server over UDP: private and changing addresses, garbage, loops, no answers.

The first label of a name, up to its last hyphen, selects the answer: `dns-private-3.test` is 10.0.0.1. Other names
have one public address each. Answers are for A and AAAA; no packet leaves the test's network namespace.
"""

import hashlib
import ipaddress
import os
import socket
import struct
import threading
import time
from collections import Counter

A, AAAA, CNAME = 1, 28, 5
SLOW_S = 6.0
PUBLIC = ipaddress.ip_network("45.0.0.0/8")
ADDRESSES: dict[str, tuple[str, ...]] = {
    "dns-private": ("10.0.0.1", "192.168.1.1", "172.16.0.1"),
    "dns-loopback": ("127.0.0.1", "::1"),
    "dns-metadata": ("169.254.169.254", "fd00:ec2::254"),
    "dns-azure": ("168.63.129.16",),
    "dns-any": ("0.0.0.0",),
    "dns-mapped": ("::ffff:127.0.0.1",),
    "dns-nat64": ("64:ff9b::7f00:1",),
    "dns-6to4": ("2002:7f00:1::1",),
    "dns-isatap": ("2600:1f00::5efe:7f00:1",),
    "dns-mixed": ("127.0.0.1", "PUBLIC", "10.0.0.1"),
    "dns-many": tuple(f"10.1.{number // 250}.{number % 250}" for number in range(400)),
}


def public_address(host: str) -> str:
    """Return the public address of a host."""
    number = int.from_bytes(hashlib.sha256(host.encode()).digest()[:3], "big")
    return str(PUBLIC[1 + number % (PUBLIC.num_addresses - 2)])


def kind_of(host: str) -> str:
    """Return the kind in the first label of a name."""
    return host.partition(".")[0].rpartition("-")[0]


class DnsServer:
    """A server that answers until the process ends. `names` counts the queries."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 53))
        self.names: Counter[tuple[str, int]] = Counter()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            question, peer = self._socket.recvfrom(4_096)
            threading.Thread(target=self._answer, args=(question, peer), daemon=True).start()

    def _answer(self, question: bytes, peer: tuple[str, int]) -> None:
        host, kind_of_record, end = _read_query(question)
        self.names[host, kind_of_record] += 1
        kind = kind_of(host)
        if kind == "dns-silent":
            return
        if kind == "dns-slow":
            time.sleep(SLOW_S)
        if kind == "dns-garbage":
            self._socket.sendto(question[:2] + os.urandom(400), peer)
            return
        identity = b"\0\0" if kind == "dns-wrong-id" else question[:2]
        flags = {"dns-nx": 0x8183, "dns-servfail": 0x8182, "dns-refused": 0x8185, "dns-truncated": 0x8380}
        records = self._records(host, kind, kind_of_record) if kind not in flags else []
        head = identity + struct.pack(">HHHHH", flags.get(kind, 0x8180), 1, len(records), 0, 0)
        answer = head + question[12:end] + b"".join(records)
        self._socket.sendto(answer[: len(answer) // 2] if kind == "dns-cut" else answer, peer)

    def _records(self, host: str, kind: str, kind_of_record: int) -> list[bytes]:
        if kind == "dns-loop":
            return [_make_record(CNAME, b"\xc0\x0c")] * 20
        if kind == "dns-rebind":
            first = self.names[host, kind_of_record] == 1
            addresses: tuple[str, ...] = ("PUBLIC",) if first else ("127.0.0.1",)
        else:
            addresses = ADDRESSES.get(kind, ("PUBLIC",))
        found = [ipaddress.ip_address(public_address(host) if each == "PUBLIC" else each) for each in addresses]
        version = {A: 4, AAAA: 6}.get(kind_of_record)
        return [_make_record(kind_of_record, each.packed) for each in found if each.version == version]


def _read_query(message: bytes) -> tuple[str, int, int]:
    """Return name, type and end of the query."""
    labels, place = [], 12
    while message[place]:
        labels.append(message[place + 1 : place + 1 + message[place]].decode("latin-1").lower())
        place += 1 + message[place]
    return ".".join(labels), struct.unpack_from(">H", message, place + 1)[0], place + 5


def _make_record(kind: int, data: bytes) -> bytes:
    return b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 0, len(data)) + data
