"""What the service tells Prometheus of itself."""

from __future__ import annotations

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_BATCH = (1, 2, 4, 8, 16, 32, 64)
CONTENT_TYPE = prometheus_client.CONTENT_TYPE_LATEST
PATHS = ("/v1/score", "/v1/compare")  # others are one label: anybody can think of new ones


class Metrics:
    """Numbers of one service.

    Attributes:
      inside: requests at work or waiting.
      batch: videos of each call of the device.
      refused: files by the stage (fetch, probe, decode, limit ...) that refused them.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        for collector in (
            prometheus_client.ProcessCollector,
            prometheus_client.PlatformCollector,
        ):
            collector(registry=self._registry)
        to = {"registry": self._registry}
        self.inside = Gauge("vqa_jax_requests_inside", "Requests at work or waiting", **to)
        self.batch = Histogram(
            "vqa_jax_batch_videos", "Videos scored together", buckets=_BATCH, **to
        )
        self.refused = Counter(
            "vqa_jax_videos_refused", "Videos that cannot be used", ["stage"], **to
        )
        self._answers = Counter("vqa_jax_requests", "Requests answered", ["path", "status"], **to)
        self._seconds = Histogram(
            "vqa_jax_request_seconds", "Time of a request", ["path"], buckets=_SECONDS, **to
        )

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Counts a request."""
        path = path if path in PATHS else "other"
        self._answers.labels(path, status).inc()
        self._seconds.labels(path).observe(seconds)

    def text(self) -> bytes:
        """All of them in Prometheus's text format."""
        return prometheus_client.generate_latest(self._registry)
