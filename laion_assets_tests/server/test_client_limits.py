"""One client cannot take all places of the service, whatever its X-Forwarded-For says."""

import contextlib
import ipaddress
import socket
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from laion_assets.server.protection.clients import find_client
from laion_assets_tests.server.running import Client, running_service
from laion_assets_tests.stages.clip_embeddings.small_dataset import built_root, small_dataset

LIMIT = 3
PROXY = "127.0.0.1/32"


@contextlib.contextmanager
def limited_service(*proxies: str) -> Iterator[Client]:
    dataset = small_dataset(built_root())
    with running_service(
        replace(dataset, search=replace(dataset.search, client_requests=LIMIT, proxies=proxies))
    ) as running:
        yield running


@pytest.fixture(scope="module")
def behind_proxy() -> Iterator[Client]:
    with limited_service(PROXY) as running:
        yield running


@contextlib.contextmanager
def slow_requests(client: Client, count: int, forwarded: str = "") -> Iterator[None]:
    """Requests whose body does not arrive: they are in progress until the end."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", client.port), timeout=20))
            header = f"X-Forwarded-For: {forwarded}\r\n" if forwarded else ""
            head = f"POST /api/search HTTP/1.1\r\nHost: localhost\r\n{header}Content-Length: 100\r\n\r\n"
            connection.sendall(head.encode() + b"{")
        time.sleep(0.2)
        yield


def wait_until_answered(client: Client, **headers: str) -> None:
    deadline = time.monotonic() + 10
    while client.get("/api/datasets", **headers).status != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_slow_requests_of_one_client_do_not_take_the_places_of_others(behind_proxy: Client) -> None:
    with slow_requests(behind_proxy, LIMIT, "203.0.113.7"):
        answer = behind_proxy.get("/api/datasets", X_Forwarded_For="203.0.113.7")
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (429, "too_many_requests", "1")
        assert "content-security-policy" in answer.headers
        assert behind_proxy.get("/api/datasets", X_Forwarded_For="203.0.113.8").status == 200
        assert behind_proxy.get("/healthz", X_Forwarded_For="203.0.113.7").status == 200
    wait_until_answered(behind_proxy, X_Forwarded_For="203.0.113.7")


def test_client_cannot_choose_its_address_behind_the_proxy(behind_proxy: Client) -> None:
    with slow_requests(behind_proxy, LIMIT, "198.51.100.1, 203.0.113.9"):
        for claimed in ("198.51.100.2, 203.0.113.9", "203.0.113.9", "x, 203.0.113.9"):
            assert behind_proxy.get("/api/datasets", X_Forwarded_For=claimed).status == 429
    wait_until_answered(behind_proxy, X_Forwarded_For="203.0.113.9")


def test_without_a_proxy_the_header_is_not_believed() -> None:
    with limited_service() as direct, slow_requests(direct, LIMIT, "203.0.113.7"):
        assert direct.get("/api/datasets", X_Forwarded_For="203.0.113.8").status == 429
        assert direct.get("/readyz").status == 200


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.7"], "192.0.2.1"),
        ("10.0.0.1", ["203.0.113.7"], "203.0.113.7"),
        ("10.0.0.1", ["198.51.100.1", "203.0.113.7, 10.0.0.2"], "203.0.113.7"),
        ("10.0.0.1", ["203.0.113.7:4711"], "203.0.113.7"),
        ("10.0.0.1", ["203.0.113.7, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.2"], "10.0.0.2"),
        ("::ffff:10.0.0.1", ["2001:db8:1:2:3::4"], "2001:db8:1:2::/64"),
        ("10.0.0.1", ["[2001:db8:1:2::9]:443"], "2001:db8:1:2::/64"),
        ("fe80::1%eth0", [], "fe80::/64"),
        ("", ["203.0.113.7"], ""),
    ],
)
def test_client_is_the_last_address_that_is_no_proxy(peer: str, forwarded: list[str], client: str) -> None:
    assert find_client(peer, forwarded, [ipaddress.ip_network("10.0.0.0/8")]) == client
