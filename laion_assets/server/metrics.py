"""Prometheus metrics of the service, in a registry of its own.

The histograms of a search's steps have the names that `clip-retrieval back` gives them, so that its dashboards work.
"""

import time

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

STEPS = {
    "full_knn_request_time": "Time spent processing knn request",
    "download_time": "Time spent downloading an url",
    "text_clip_inference_time": "Time spent doing a text clip inference",
    "image_clip_inference_time": "Time spent doing a image clip inference",
    "metadata_get_time": "Time spent retrieving metadata",
    "knn_index_time": "Time spent doing a knn on the index",
    "dedup_time": "Time spent deduping",
}
"""clip-retrieval's histograms by name, with its descriptions. Retrieving metadata includes reading hidden rows."""
_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """Counts requests and observes the time of each step, in seconds."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.steps = {
            name: Histogram(name, meaning, registry=self.registry, buckets=_BUCKETS) for name, meaning in STEPS.items()
        }
        self.requests = Counter(
            "laion_assets_search_requests",
            "Requests by endpoint and status",
            ["endpoint", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "laion_assets_search_request_seconds",
            "Time from a request's head to its answer",
            ["endpoint"],
            registry=self.registry,
            buckets=_BUCKETS,
        )

    def observe(self, step: str, seconds: float) -> None:
        """Add a duration of a step."""
        self.steps[step].observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def summary(self) -> str:
        """Return clip-retrieval's summary: number of calls, average time and share of each step."""
        figures = {name: _count_and_sum(histogram) for name, histogram in self.steps.items()}
        calls, total = figures.pop("full_knn_request_time")
        if not calls:
            return "No request yet, go do some"
        lines = [
            f"Among {calls:.0f} calls to the knn end point with an average latency of {total / calls:.4f}s per "
            "request, the step costs are (in order): \n",
            f"{'name':27} {'description':42} {'calls':>7} {'average':>9} {'proportion':>10}",
        ]
        averages = {name: seconds / count if count else 0.0 for name, (count, seconds) in figures.items()}
        for name in sorted(averages, key=lambda name: -averages[name]):
            share = averages[name] / (total / calls) if total else 0.0
            lines.append(
                f"{name:27} {STEPS[name]:42} {figures[name][0]:7.0f} {averages[name]:8.4f}s {share * 100:9.1f}%"
            )
        return "\n".join(lines)


class RequestMetrics:
    """ASGI middleware that counts requests by endpoint and status."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = "closed"

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        try:
            await self._app(scope, receive, send_and_note)
        finally:
            # The name of the endpoint and never the path: a client must not choose the labels.
            endpoint = getattr(scope.get("endpoint"), "__name__", "static" if "endpoint" in scope else "none")
            self._metrics.requests.labels(endpoint, status).inc()
            self._metrics.seconds.labels(endpoint).observe(time.perf_counter() - started)


def _count_and_sum(histogram: Histogram) -> tuple[float, float]:
    samples = {sample.name.rpartition("_")[2]: sample.value for sample in next(iter(histogram.collect())).samples}
    return samples["count"], samples["sum"]
