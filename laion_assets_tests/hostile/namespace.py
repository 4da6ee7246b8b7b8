"""A network namespace without outside connection, in which every address is local, and a record of contacted addresses.

All of IPv4 and IPv6 is routed to the namespace's loopback interface: a connection to any address, public, private or a
metadata service's, reaches only the test's servers. nftables records the destination of every TCP connection attempt
and every UDP packet.
"""

import json
import os
import subprocess
from pathlib import Path

NAME_SERVER = "9.9.9.9"
_RULES = """
table inet watch {
  set asked4 { type ipv4_addr . inet_proto . inet_service; flags dynamic; size 65535; }
  set asked6 { type ipv6_addr . inet_proto . inet_service; flags dynamic; size 65535; }
  chain output {
    type filter hook output priority 0;
    tcp flags & (syn | ack) == syn add @asked4 { ip daddr . meta l4proto . th dport }
    tcp flags & (syn | ack) == syn add @asked6 { ip6 daddr . meta l4proto . th dport }
    udp sport != 53 add @asked4 { ip daddr . meta l4proto . th dport }
    udp sport != 53 add @asked6 { ip6 daddr . meta l4proto . th dport }
  }
}
"""
_SETS = ("asked4", "asked6")


def command_inside(command: list[str]) -> list[str]:
    """Return a command that runs `command` in new network and mount namespaces, and a user namespace if not root."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *user, "--net", "--mount", "--kill-child", *command]


def prepare(folder: Path) -> None:
    """Route all addresses to loopback, set the DNS server, and start to record. Call this in the namespaces.

    Raises subprocess.CalledProcessError.
    """
    os.environ["PATH"] = f"{os.environ['PATH']}:/usr/sbin:/sbin"  # where Debian has ip and nft
    for arguments in (
        "link set lo up",
        "route add local default dev lo",
        "-6 route add local default dev lo",
    ):
        subprocess.run(["ip", *arguments.split()], check=True)
    resolv = folder / "resolv.conf"
    resolv.write_text(f"nameserver {NAME_SERVER}\noptions timeout:1 attempts:1\n")
    subprocess.run(["mount", "--bind", str(resolv), "/etc/resolv.conf"], check=True)
    subprocess.run(["nft", "-f", "-"], input=_RULES, text=True, check=True)


def list_contacts() -> set[tuple[str, str, int]]:
    """Return (address, "tcp" or "udp", port) of everything contacted since `clear_contacts`."""
    found = set()
    for name in _SETS:
        listed = subprocess.run(
            ["nft", "-j", "list", "set", "inet", "watch", name], check=True, capture_output=True, text=True
        )
        for entry in json.loads(listed.stdout)["nftables"]:
            for element in entry.get("set", {}).get("elem", ()):
                address, protocol, port = element["concat"]
                found.add((str(address), str(protocol), int(port)))
    return found


def clear_contacts() -> None:
    """Clear the record of contacted addresses."""
    for name in _SETS:
        subprocess.run(["nft", "flush", "set", "inet", "watch", name], check=True)
