"""Allowed connections, and that no lookup is repeated."""

import ipaddress
import socket
import threading
import time

import pytest

from laion_assets.errors import SettingError
from laion_assets.http.urls.guard import Guard
from laion_assets.http.urls.resolver import Resolver
from laion_assets.http.urls.target import parse_target
from laion_assets.reasons import Reason, Rejection


class Names:
    """A fake resolver: returns answers by host, in turn, and counts the lookups."""

    def __init__(self, **answers):
        self.answers = {host.replace("_", "."): answer for host, answer in answers.items()}
        self.asked = []

    def __call__(self, host):
        self.asked.append(host)
        answer = self.answers[host]
        if isinstance(answer, Exception):
            raise answer
        turn = answer[min(self.asked.count(host), len(answer)) - 1]
        return [ipaddress.ip_address(text) for text in turn]


def guard(names=None, resolve=None):
    return Guard(resolve or {}, (80, 443), Resolver(names) if names else None)


def guard_of(*operator_urls):
    return Guard({}, (80,), operator_urls=operator_urls)


def reason_for(url, checked):
    with pytest.raises(Rejection) as rejection:
        checked.endpoints(parse_target(url), 5.0)
    return rejection.value.reason


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0x7f.1", "localhost", "0", "0.0.0.0", "[::1]",
     "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "10.1.2.3", "169.254.169.254",
     "[fe80::1%25lo]", "224.0.0.1", "①②⑦.⓪.⓪.①", "127.0.0.1.", "[2001:0:a00:1::]"],
)  # fmt: skip
def test_no_spelling_of_a_private_address_passes(host):
    assert reason_for(f"http://{host}/x", guard()) is Reason.BLOCKED_ADDRESS
    if host != "localhost":  # a name, whose port is refused before it is looked up
        assert reason_for(f"http://{host}:8080/x", guard()) is Reason.BLOCKED_ADDRESS


def test_private_addresses_of_a_host_are_refused_and_public_ones_kept():
    names = Names(
        ipv4only_arpa=[["192.0.0.170"]],
        home_test=[["10.0.0.7"]],
        mixed_test=[["10.0.0.7", "93.184.216.34", "::1", "2606:4700::1"]],
    )
    assert reason_for("http://home.test/", guard(names)) is Reason.BLOCKED_ADDRESS
    endpoints = guard(names).endpoints(parse_target("http://mixed.test/"), 5.0)
    assert list(map(str, endpoints)) == ["93.184.216.34:80", "[2606:4700::1]:80"]


def test_address_that_changes_after_the_check_is_not_used():
    names = Names(rebind_test=[["93.184.216.34"], ["127.0.0.1"]])
    checked = guard(names)
    for _ in range(3):
        assert [str(e) for e in checked.endpoints(parse_target("http://rebind.test/"), 5.0)] == ["93.184.216.34:80"]
    assert names.asked == ["rebind.test"]


def test_ports_are_checked_before_dns():
    names = Names(a_test=[["93.184.216.34"]])
    assert reason_for("http://a.test:22/", guard(names)) is Reason.BLOCKED_PORT
    assert names.asked == []
    assert guard(names).endpoints(parse_target("http://a.test:443/"), 5.0)


def test_only_resolve_entries_may_be_private():
    checked = guard(
        Names(b_example=[["10.0.0.1"]], home_example=[["127.0.0.1"]]), {"*.TEST": "127.0.0.1:5001", "::1": "[::1]:5002"}
    )
    assert [str(e) for e in checked.endpoints(parse_target("http://Photos-07.test:8080/"), 5.0)] == ["127.0.0.1:5001"]
    assert [str(e) for e in checked.endpoints(parse_target("http://photos.test./"), 5.0)] == ["127.0.0.1:5001"]
    assert [str(e) for e in checked.endpoints(parse_target("http://[::1]/"), 5.0)] == ["[::1]:5002"]
    assert reason_for("http://b.example/", checked) is Reason.BLOCKED_ADDRESS
    assert reason_for("http://home.example/", checked) is Reason.BLOCKED_ADDRESS
    assert reason_for("http://home.example:5001/", checked) is Reason.BLOCKED_PORT


@pytest.mark.parametrize(
    ("resolve", "port"),
    [
        ({"a.test": "127.0.0.1:1", "*.test": "127.0.0.1:2"}, 1),
        ({"*.test": "127.0.0.1:2", "a.test": "127.0.0.1:1"}, 1),
        ({"*": "127.0.0.1:5", "*.test": "127.0.0.1:2", "*.org": "127.0.0.1:6"}, 2),
        ({"?.test": "127.0.0.1:7", "*.test": "127.0.0.1:2"}, 7),
        ({"b.test": "127.0.0.1:3", "A.TEST": "127.0.0.1:1"}, 1),
        ({"b.test": "127.0.0.1:3", "[ab].test": "127.0.0.1:4", "a.test": "127.0.0.1:1"}, 1),
    ],
)
def test_exact_host_has_priority_over_patterns_and_longer_patterns_over_shorter_ones(resolve, port):
    assert list(map(str, guard(resolve=resolve).endpoints(parse_target("http://a.test/"), 5.0))) == [
        f"127.0.0.1:{port}"
    ]


def test_lookup_of_a_host_does_not_depend_on_their_number():
    checked = guard(resolve={f"host-{number}.test": "127.0.0.1:8080" for number in range(10_000)})
    target = parse_target("http://host-9999.test/")
    started = time.thread_time()
    for _ in range(1_000):
        checked.endpoints(target, 5.0)
    assert time.thread_time() - started < 0.5


def test_hosts_of_the_settings_may_be_private_on_their_own_port_only():
    names = Names(intra_test=[["10.0.0.7"]], other_test=[["10.0.0.8"]])
    checked = Guard({}, (80,), Resolver(names), operator_urls=["http://INTRA.test:8000/csv/"])
    assert [str(e) for e in checked.endpoints(parse_target("http://intra.test:8000/x"), 5.0)] == ["10.0.0.7:8000"]
    assert guard_of("http://127.0.0.1:81/").endpoints(parse_target("http://127.0.0.1:81/x"), 5.0)
    assert reason_for("http://intra.test/", checked) is Reason.BLOCKED_ADDRESS
    assert reason_for("http://intra.test:3000/", checked) is Reason.BLOCKED_PORT
    assert reason_for("http://other.test/", checked) is Reason.BLOCKED_ADDRESS


def test_blocked_networks_are_refused_for_data_alone():
    names = Names(a_test=[["93.184.216.34"]])
    blocked = ["93.184.0.0/16", "2606:4700::/32"]
    assert reason_for("http://a.test/", Guard({}, (80,), Resolver(names), blocked)) is Reason.BLOCKED_ADDRESS
    assert Guard({}, (80,), Resolver(names), blocked, ["http://a.test/"]).endpoints(parse_target("http://a.test/"), 5.0)
    with pytest.raises(SettingError, match="blocked_networks names 'x'"):
        Guard({}, (80,), blocked_networks=["x"])


@pytest.mark.parametrize(
    ("known", "inward", "outward"),
    [
        ("2a00:64::192.0.0.170", "2a00:64::10.0.0.1", "2a00:64::8.8.8.8"),
        ("2a00:64:c000:aa::", "2a00:64:a00:1::", "2a00:64:808:808::"),
        ("2a00:0:64:0:c0:0:aa00:0", "2a00:0:64:0:a:0:100:0", "2a00:0:64:0:8:808:800:0"),
    ],
)
def test_the_networks_own_nat64_prefix_is_looked_up(known, inward, outward):
    names = Names(ipv4only_arpa=[[known]], in_test=[[inward]], out_test=[[outward]])
    assert reason_for("http://in.test/", guard(names)) is Reason.BLOCKED_ADDRESS
    assert guard(names).endpoints(parse_target("http://out.test/"), 5.0)


def test_ipv6_is_allowed_if_the_nat64_lookup_fails():
    names = Names(ipv4only_arpa=socket.gaierror(socket.EAI_NONAME, "none"), a_test=[["2a00:64::10.0.0.1"]])
    assert guard(names).endpoints(parse_target("http://a.test/"), 5.0)


@pytest.mark.parametrize("where", ["127.0.0.1:¹", "127.0.0.1", "localhost:80", "127.0.0.1:0", "127.0.0.1:x", ""])
def test_a_malformed_resolve_entry_is_refused_by_name(where):
    with pytest.raises(SettingError, match=r"resolve maps '\*.test'"):
        Guard({"*.test": where}, (80,))


def test_dns_failures_have_a_reason_and_are_retried_later():
    names = Names(
        down_test=socket.gaierror(socket.EAI_AGAIN, "again"),
        gone_test=socket.gaierror(socket.EAI_NONAME, "none"),
        empty_test=[[]],
    )
    checked = guard(names)
    for host in ("down", "gone", "empty") * 2:
        assert reason_for(f"http://{host}.test/", checked) is Reason.DNS_FAILURE
    assert names.asked.count("down.test") == 2
    assert names.asked.count("gone.test") == 1


def test_hanging_resolver_times_out_and_is_queried_once():
    asked = []

    def silent(host):
        asked.append(host)
        time.sleep(3)
        return []

    resolver = Resolver(silent)
    started = time.monotonic()
    threads = [
        threading.Thread(target=pytest.raises, args=(Rejection, resolver.addresses, "a.test", 0.2)) for _ in "123"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started < 2
    assert asked == ["a.test"]


def allowing(*networks, blocked=(), **names):
    return Guard({}, (80,), Resolver(Names(ipv4only_arpa=[[]], **names)), blocked, allow_networks=networks)


def test_an_allowed_network_may_be_private_for_hosts_of_data():
    checked = allowing("10.20.0.0/16", a_test=[["10.20.3.4"]], b_test=[["10.21.3.4"]])
    target = parse_target("http://a.test/")
    assert [str(each) for each in checked.endpoints(target, 5.0)] == ["10.20.3.4:80"]
    assert checked.verdicts(target, 5.0) == [("10.20.3.4", "allowed: a network of allow_networks")]
    assert reason_for("http://b.test/", checked) is Reason.BLOCKED_ADDRESS
    assert reason_for("http://10.20.3.4:81/", checked) is Reason.BLOCKED_PORT


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "168.63.129.16", "100.100.100.200", "fe80::1", "fd00:ec2::254", "fd20:ce::254"]
)
def test_a_metadata_service_needs_an_entry_of_exactly_its_address(address):
    host = f"[{address}]" if ":" in address else address
    wide = ("::/0", "fe80::/10", "fd00::/8") if ":" in address else ("0.0.0.0/0", "169.254.0.0/16", "168.63.129.0/24")
    assert reason_for(f"http://{host}/", allowing(*wide, **{address: [[address]]})) is Reason.BLOCKED_ADDRESS
    exact = f"{address}/{128 if ':' in address else 32}"
    assert allowing(exact, **{address: [[address]]}).endpoints(parse_target(f"http://{host}/"), 5.0)


@pytest.mark.parametrize("address", ["::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1"])
def test_an_embedded_address_needs_its_own_permission(address):
    assert reason_for(f"http://[{address}]/", allowing("::/0", **{address: [[address]]})) is Reason.BLOCKED_ADDRESS
    both = allowing("10.0.0.0/8", "::/0", **{"::ffff:a00:1": [["::ffff:a00:1"]]})
    assert both.endpoints(parse_target("http://[::ffff:a00:1]/"), 5.0)


def test_blocked_networks_take_precedence_over_allowed_ones():
    checked = allowing("10.0.0.0/8", blocked=("10.1.0.0/16",), a_test=[["10.1.0.1"]])
    assert reason_for("http://a.test/", checked) is Reason.BLOCKED_ADDRESS
    with pytest.raises(SettingError, match="allow_networks names 'x'"):
        allowing("x")
