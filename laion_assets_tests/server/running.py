"""A service that runs in a thread of the tests, and a client for it."""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn

from laion_assets.dataset.dataset import Dataset
from laion_assets.server.run import bind, build_server
from laion_assets.server.service import Service


@dataclass(frozen=True)
class Answer:
    """Status, headers (lower case) and body of a response."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of an error."""
        return self.json["error"]["code"]


@dataclass(frozen=True)
class Client:
    """Sends requests to the service on loopback, each on its own connection."""

    port: int
    service: Service
    server: uvicorn.Server

    def send(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.send("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, path: str, value: Any, **headers: str) -> Answer:
        sent = {"Content-Type": "application/json", **{name.replace("_", "-"): v for name, v in headers.items()}}
        return self.send("POST", path, json.dumps(value).encode(), sent)

    def search(self, *terms: Any, dataset: str = "small", **fields: Any) -> Answer:
        """Search by terms; a text is a term."""
        listed = [{"text": term} if isinstance(term, str) else term for term in terms]
        return self.post("/api/search", {"dataset": dataset, "terms": listed, **fields})


@contextlib.contextmanager
def running_service(*datasets: Dataset, token: str = "") -> Iterator[Client]:
    """Serve datasets until the body ends; the models are loaded."""
    service = Service(datasets)
    with bind("127.0.0.1", 0) as listener:
        server = build_server(service, "127.0.0.1", token)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            for encoder in service.encoders.values():
                encoder.load(120)
            deadline = time.monotonic() + 60
            while not server.started:
                assert thread.is_alive()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield Client(listener.getsockname()[1], service, server)
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()
