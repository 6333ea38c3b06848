"""Numbers for Prometheus."""

from prometheus_client.parser import text_string_to_metric_families

from vqa_jax.serving.metrics import Metrics


def test_requests_are_counted_under_few_names():
    metrics = Metrics()
    for path in ("/v1/score", "/v1/anything", "/v1/other"):
        metrics.answered(path, 200, 0.2)
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for sample in family.samples
    }
    assert found["vqa_jax_requests_total", "/v1/score", "200"] == 1
    assert found["vqa_jax_requests_total", "200", "other"] == 2
    assert found["vqa_jax_request_seconds_sum", "/v1/score"] == 0.2
