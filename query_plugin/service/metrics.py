"""What the service counts, for Prometheus. Units are in the names; a registry a service, so that two do not mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lrem_os.extras import require
from lrem_os.model.endpoints import EndpointState
from lrem_os.query_plugin.engine.reading import Reading

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """Counters and histograms of one service.

    Raises:
        DependencyMissing: The extra ``serve`` is not installed.
    """

    def __init__(self) -> None:
        prometheus: Any = require("prometheus_client", extra="serve")
        self._registry = prometheus.CollectorRegistry()
        self._generate = prometheus.generate_latest
        self.content_type: str = prometheus.CONTENT_TYPE_LATEST

        def counter(name: str, text: str, *labels: str) -> Any:
            return prometheus.Counter(f"lrem_{name}", text, labels, registry=self._registry)

        def histogram(name: str, text: str, *labels: str) -> Any:
            return prometheus.Histogram(f"lrem_{name}", text, labels, registry=self._registry, buckets=_SECONDS)

        def gauge(name: str, text: str, *labels: str) -> Any:
            return prometheus.Gauge(f"lrem_{name}", text, labels, registry=self._registry)

        self._requests = counter("requests_total", "Requests answered.", "endpoint", "status")
        self._seconds = histogram("request_seconds", "From the first byte to the answer.", "endpoint")
        self._running = gauge("requests_running", "Requests under way.")
        self._gone = counter("clients_gone_total", "Requests whose client left before the answer.", "endpoint")
        self._queries = counter("queries_total", "Query texts read, by the route they got.", "route")
        self._cached = counter("queries_cached_total", "Query texts read without asking a model.")
        self._degraded = counter("degraded_total", "Query texts read with less than was wanted.", "reason")
        self._stages = histogram("stage_seconds", "What a query waited for.", "stage")
        self._upstream = histogram("opensearch_seconds", "Time of OpenSearch's answer.")
        self._again = counter("asked_again_total", "Searches sent once more, because the alias had moved meanwhile.")
        self._failed = counter("opensearch_failures_total", "Requests that OpenSearch did not answer.", "kind")
        self._ubi = counter("ubi_records_total", "Behaviour records, by what became of them.", "index", "outcome")
        self._tasks = gauge("tasks", "Tasks of the event loop.")
        self._endpoint = gauge(
            "endpoint", "Servers of the models: up, running, answers, failures, rests, seconds.", "model", "url", "what"
        )
        self._engine = gauge("engine", "Queues, calls that hang and cached values.", "what")

    def began(self) -> None:
        """Count a request that comes in."""
        self._running.inc()

    def ended(self, endpoint: str, status: int | None, seconds: float) -> None:
        """Count a request that is over.

        Args:
            endpoint: The route, not the path: there must not be more series than routes.
            status: ``None``: the client left.
            seconds: What it took.
        """
        self._running.dec()
        if status is None:
            self._gone.labels(endpoint).inc()
            return
        self._requests.labels(endpoint, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def read(self, reading: Reading) -> None:
        """Count a query."""
        self._queries.labels(reading.route).inc()
        if reading.cached:
            self._cached.inc()
        for reason in reading.degraded:
            self._degraded.labels(reason).inc()
        for stage, took_ms in reading.timings_ms.items():
            self._stages.labels(stage).observe(took_ms / 1000)

    def searched(self, seconds: float) -> None:
        """Count an answer of OpenSearch."""
        self._upstream.observe(seconds)

    def asked_again(self) -> None:
        """Count a request that is sent once more, because its hits came from an index that was not expected."""
        self._again.inc()

    def search_failed(self, kind: str) -> None:
        """Count a request that OpenSearch did not answer."""
        self._failed.labels(kind).inc()

    def ubi(self, index: str, outcome: str, count: int = 1) -> None:
        """Count behaviour records: ``written``, ``dropped`` (the queue was full) or ``failed``."""
        self._ubi.labels(index, outcome).inc(count)

    def page(
        self,
        engine: Mapping[str, float],
        *,
        num_tasks: int = 0,
        endpoints: Mapping[str, Sequence[EndpointState]] | None = None,
    ) -> bytes:
        """Return all of it as Prometheus reads it.

        Args:
            engine: How the engine is at this moment.
            num_tasks: Of the event loop.
            endpoints: By model, its servers.
        """
        for model, states in (endpoints or {}).items():
            for state in states:
                for what, value in _of_endpoint(state).items():
                    self._endpoint.labels(model, state.url, what).set(value)
        self._tasks.set(num_tasks)
        for what, value in engine.items():
            self._engine.labels(what).set(value)
        data: bytes = self._generate(self._registry)
        return data


def _of_endpoint(state: EndpointState) -> Mapping[str, float]:
    return {
        "up": float(state.is_up),
        "running": state.num_running,
        "answers": state.num_answers,
        "failures": state.num_failures,
        "rests": state.num_rests,
        "seconds": state.seconds,
    }
