"""`deploy/nginx.conf` in a real nginx before a real Dagster web server: cross-site requests are refused.

`make test-proxy`.
"""

import base64
import http.client
import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import pytest

from laion_assets_tests.end_to_end.conftest import BIN, TOP, environment
from laion_assets_tests.end_to_end.dagster_ui import wait_until
from laion_assets_tests.end_to_end.deployment import DEPLOY

pytestmark = pytest.mark.proxy

MUTATION = 'mutation { setConcurrencyLimit(concurrencyKey: "%s", limit: 9) }'
LIMITS = "{ instance { concurrencyLimits { concurrencyKey } } }"
JSON = {"Content-Type": "application/json"}
EVIL = "http://evil.test"


@dataclass(frozen=True)
class Proxied:
    """The ports of the proxy and of the web server behind it."""

    proxy: int
    server: int

    def ask(
        self, method: str, path: str, body: str | None = None, direct: bool = False, **headers: str
    ) -> tuple[int, str]:
        """Status and body of an answer of the proxy, or of the server itself. `_` in names of headers is `-`."""
        port = self.server if direct else self.proxy
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, {"Host": f"127.0.0.1:{self.proxy}", **named})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def limits(self) -> str:
        status, body = self.ask("POST", "/graphql", json.dumps({"query": LIMITS}), Content_Type="application/json")
        assert status == 200, body
        return body

    def socket_status(self, origin: str | None) -> int:
        """The status of a websocket's handshake."""
        with socket.create_connection(("127.0.0.1", self.proxy), timeout=30) as opened:
            lines = [
                "GET /graphql HTTP/1.1",
                f"Host: 127.0.0.1:{self.proxy}",
                "Upgrade: websocket",
                "Connection: Upgrade",
                "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Protocol: graphql-ws",
                f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}",
                *([f"Origin: {origin}"] if origin else []),
            ]
            opened.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
            return int(opened.recv(100).split()[1])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    home = tmp_path_factory.mktemp("proxy")
    (home / "dagster_home").mkdir()
    shutil.copy(TOP / "dagster_home" / "dagster.yaml", home / "dagster_home")
    (home / "empty.py").write_text("import dagster as dg\n\ndefs = dg.Definitions(assets=[dg.AssetSpec('one')])\n")
    found = Proxied(free_port(), free_port())
    config = (DEPLOY / "nginx.conf").read_text()
    replaced = {
        "listen 8080": f"listen 127.0.0.1:{found.proxy}",
        "ui:3000": f"127.0.0.1:{found.server}",
        "/tmp/": f"{home}/",
    }
    for old, new in replaced.items():
        assert old in config
        config = config.replace(old, new)
    (home / "nginx.conf").write_text(config)
    nginx = shutil.which("nginx") or "/usr/sbin/nginx"
    log = (home / "log").open("wb")
    commands = [
        [BIN / "dagster-webserver", "-h", "127.0.0.1", "-p", str(found.server), "-f", home / "empty.py"],
        [nginx, "-c", home / "nginx.conf", "-p", home, "-g", "daemon off;"],
    ]
    processes = [
        subprocess.Popen(command, cwd=TOP, env=environment(home), stdout=log, stderr=subprocess.STDOUT)
        for command in commands
    ]
    try:

        def ready() -> bool:
            assert all(process.poll() is None for process in processes), (home / "log").read_text()
            try:
                return found.ask("GET", "/server_info")[0] == 200
            except OSError:
                return False

        wait_until(ready, 120)
        yield found
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(30)
        log.close()


def test_the_ui_and_its_requests_pass(proxied: Proxied) -> None:
    own = f"http://127.0.0.1:{proxied.proxy}"
    status, page = proxied.ask("GET", "/assets/one", Accept="text/html")
    assert status == 200
    assert "Dagster" in page
    for script in re.findall(r'src="([^"]+\.js)"', page)[:2]:
        assert proxied.ask("GET", script)[0] == 200
    passing = json.dumps({"query": MUTATION % "by-the-ui"})
    status, body = proxied.ask("POST", "/graphql", passing, Origin=own, Sec_Fetch_Site="same-origin", **JSON)
    assert status == 200, body
    assert "by-the-ui" in proxied.limits()
    assert proxied.socket_status(own) == 101
    assert proxied.socket_status(None) == 101


def test_a_mutation_by_get_is_refused(proxied: Proxied) -> None:
    path = f"/graphql?query={quote(MUTATION % 'by-get')}"
    assert proxied.ask("GET", path.replace("by-get", "by-get-direct"), direct=True)[0] == 200
    for headers in ({}, {"Accept": "image/avif,image/webp,*/*"}, {"Upgrade": "h2c"}, {"Sec_Fetch_Site": "same-origin"}):
        assert proxied.ask("GET", path, **headers)[0] == 405
    for method in ("HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert proxied.ask(method, path)[0] == 405
    for other in (path.replace("/graphql", "//graphql"), path.replace("/graphql", "/%67raphql"), f"/x/..{path}"):
        assert proxied.ask("GET", other)[0] == 405
    limits = proxied.limits()
    assert "by-get-direct" in limits, "Dagster itself takes it: the proxy is needed"
    assert '"by-get"' not in limits


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": EVIL, **JSON},
        {"Origin": "null", **JSON},
        {"Origin": "http://127.0.0.1:1", **JSON},
        {"Origin": "http://127.0.0.1:{port}.evil.test", **JSON},
        {"Sec_Fetch_Site": "cross-site", **JSON},
        {"Sec_Fetch_Site": "same-site", **JSON},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/graphql"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "text/plain; x=application/json"},
        {"Content-Type": "application/jsonx"},
        {},
    ],
)
def test_a_post_of_another_page_is_refused(proxied: Proxied, headers: dict[str, str]) -> None:
    given = {name: value.format(port=proxied.proxy) for name, value in headers.items()}
    body = json.dumps({"query": MUTATION % "by-post"})
    assert proxied.ask("POST", "/graphql", body, **given)[0] == 403
    assert proxied.ask("POST", "/report_asset_materialization/one?partition=x", body, **given)[0] == 403
    assert "by-post" not in proxied.limits()


def test_a_websocket_of_another_page_is_refused(proxied: Proxied) -> None:
    assert proxied.socket_status(EVIL) == 403
    assert proxied.socket_status("null") == 403


@pytest.mark.parametrize("host", ["evil.test", "evil.test:3000", "127.0.0.1.evil.test", "10.0.0.1"])
def test_another_host_name_is_refused(proxied: Proxied, host: str) -> None:
    body = json.dumps({"query": MUTATION % "by-rebinding"})
    assert proxied.ask("POST", "/graphql", body, Host=host, **JSON)[0] == 421
    assert proxied.ask("GET", "/", Host=host)[0] == 421


def test_the_policy_keeps_the_ui_s_requests_at_home(proxied: Proxied) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proxied.proxy, timeout=30)
    connection.request("GET", "/assets/one", headers={"Accept": "text/html"})
    answer = connection.getresponse()
    policies = [value for name, value in answer.getheaders() if name.lower() == "content-security-policy"]
    connection.close()
    assert any("img-src 'self' data: blob:" in policy for policy in policies)
    assert answer.getheader("X-Frame-Options") == "DENY"
