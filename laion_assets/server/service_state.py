"""The state of the service as Prometheus metrics: queue, caches, open indices."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from laion_assets.server.service import Service


class ServiceState(Collector):
    """Values that the service keeps anyway, read when the metrics are asked for."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def describe(self) -> Iterator[Metric]:
        """Return no names, so that the state is not read before the service is built."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        service = self._service
        prefix = "laion_assets_search"
        yield GaugeMetricFamily(f"{prefix}_active", "Requests that search or wait for it", service.active)
        yield GaugeMetricFamily(f"{prefix}_queue", "Requests that wait for a search thread", service.waiting)
        encoders = service.encoders.values()
        waiting = sum(encoder.waiting for encoder in encoders)
        yield GaugeMetricFamily(f"{prefix}_encoder_queue", "Texts and images that wait for the model", waiting)
        batches = sum(encoder.batches for encoder in encoders)
        yield CounterMetricFamily(f"{prefix}_text_batches", "Batches of texts that the model encoded", batches)
        cache = CounterMetricFamily(f"{prefix}_cache", "Look-ups in the caches", labels=["cache", "result"])
        cache.add_metric(["text", "hit"], sum(encoder.hits for encoder in encoders))
        cache.add_metric(["text", "miss"], sum(encoder.misses for encoder in encoders))
        rows = [search.current.version.metadata for search in service.searches.values()]
        cache.add_metric(["metadata", "hit"], sum(each.hits for each in rows))
        cache.add_metric(["metadata", "miss"], sum(each.misses for each in rows))
        yield cache
        size = GaugeMetricFamily(f"{prefix}_rows", "Rows of the open index", labels=["dataset", "index_version"])
        for name, search in service.searches.items():
            version = search.current.version
            size.add_metric([name, version.version], len(version))
        yield size
