"""What tests of the service share: the corpus's student at work, and videos that it knows."""

import types

import pytest
from starlette.testclient import TestClient

from tests.fixtures import noise_video, tiny_corpus
from vqa_jax.serving.app import make_app
from vqa_jax.serving.config import ServeConfig
from vqa_jax.settings import DecodeLimits

CONFIG = ServeConfig(DecodeLimits(seconds=60), timeline_seconds=8, upload_mb=4)


@pytest.fixture(scope="package")
def student(known):
    """The corpus's student, whose motion features say nothing."""
    with tiny_corpus.student_at_work(known) as found:
        yield found


@pytest.fixture(scope="package")
def client(student):
    """Asks the service."""
    with TestClient(make_app(student, CONFIG)) as found:
        yield found


@pytest.fixture(scope="package")
def videos(tmp_path_factory):
    """Paths of a good video, a dark one, and one that is dark in its seconds 6 and 7."""
    folder = tmp_path_factory.mktemp("videos")

    def made(name, seconds, brightness):
        return noise_video.write(folder / name, noise_video.noise(seconds, brightness))

    return types.SimpleNamespace(
        good=made("good.mp4", 3, lambda s: 1.0),
        dark=made("dark.mp4", 3, lambda s: 0.2),
        part=made("part.mkv", 10, lambda s: 0.1 if 6 <= s < 8 else 1.0),
    )
