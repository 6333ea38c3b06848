"""Mixed requests to the service, good and bad, with decoders killed: what the soak calls wrong."""

import asyncio
import os
import time

import pytest

from launch.bench import service
from tests.fixtures import running_service, tiny_corpus
from vqa_jax import loading
from vqa_jax.motion import extractor
from vqa_jax.serving.config import ServeConfig
from vqa_jax.settings import DecodeLimits

pytestmark = pytest.mark.slow


def test_a_soak_loses_no_request_and_holds_its_bounds(known, tmp_path, monkeypatch):
    monkeypatch.setattr(extractor, "load_extractor", tiny_corpus.StubExtractor)
    monkeypatch.setattr(service, "_KILL_EVERY", 50)
    student, clips = loading.load(known), service.make_clips(str(tmp_path))
    scores = {path: student.score(path).score for path in clips}
    assert len(set(scores.values())) == len(scores)
    config = ServeConfig(
        DecodeLimits(seconds=60), requests=24, upload_mb=8, upload_seconds=5, work_seconds=60
    )
    with running_service.running(student, config) as port:
        begun = time.monotonic()
        answers, samples = asyncio.run(service.soak(port, os.getpid(), scores, 300, 32, 0))
    found = service.facts(answers, samples, scores, time.monotonic() - begun)
    assert found["wrong"] == [] and found["requests"] == 300
    assert found["most_inside"] <= 24 and found["inside_at_end"] <= 1
    assert found["files"][1] <= found["files"][0] + 16
    kinds = {answer.kind for answer in answers if answer.status == 200}
    assert {"good", "pair"} <= kinds
