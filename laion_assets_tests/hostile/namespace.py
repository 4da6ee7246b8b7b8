"""A network namespace without a way out, where every address is this machine, and a list of what was asked.

All of IPv4 and IPv6 is local to the namespace's loopback interface: a connection to any address, public, private or a
metadata service's, reaches the test's servers and nothing else. nftables notes the destination of every TCP connection
attempt and every UDP packet.
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
    """This command in new network and mount namespaces; as another user than root in a user namespace too."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", *user, "--net", "--mount", "--kill-child", *command]


def prepare(folder: Path) -> None:
    """Make all addresses local, name the DNS server in resolv.conf, begin to watch. To be called in the namespaces.

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


def asked() -> set[tuple[str, str, int]]:
    """(address, "tcp" or "udp", port) of everything that was asked since `forget`."""
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


def forget() -> None:
    """Empty the list of what was asked."""
    for name in _SETS:
        subprocess.run(["nft", "flush", "set", "inet", "watch", name], check=True)
